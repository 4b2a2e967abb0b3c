"""Pictures of classic control and GIFs of them."""

import jax
import numpy as np
import pytest
from PIL import Image

from jaxrl.envs import make
from jaxrl.envs.tools.render import HEIGHT, RENDERERS, WIDTH, save_gif
from jaxrl.errors import DiskError

FIELDS = {
    "CartPole-v1": ("x", "theta"),
    "Acrobot-v1": ("joint_angle1", "joint_angle2"),
    "MountainCar-v0": ("position",),
    "MountainCarContinuous-v0": ("position",),
    "Pendulum-v1": ("theta", "last_u"),
}


def params_and_state(env_id, **values):
    """The default physics and the state of one environment, with these of its values set."""
    env = make(env_id, num_envs=1)
    state, _ = env.reset(jax.random.key(0), env.params)
    return env.params, jax.tree.map(lambda leaf: leaf[0], state.inner).replace(**values)


def column_of(picture, color):
    """Mean column of the pixels of a colour."""
    return np.nonzero((picture == np.array(color)).all(axis=-1))[1].mean()


def row_of(picture, color):
    """Mean row of the pixels of a colour."""
    return np.nonzero((picture == np.array(color)).all(axis=-1))[0].mean()


ORANGE, BLUE = (222, 143, 52), (52, 101, 164)


@pytest.mark.parametrize(("env_id", "field"), [(i, f) for i, fields in FIELDS.items() for f in fields])
def test_a_picture_changes_with_each_visible_part_of_the_state(env_id, field):
    pictures = [RENDERERS[env_id](*params_and_state(env_id, **{field: value})) for value in (-0.4, 0.4)]
    for picture in pictures:
        assert (picture.shape, picture.dtype) == ((HEIGHT, WIDTH, 3), np.uint8)
    assert (pictures[0] != pictures[1]).any(axis=-1).sum() > 200


def test_there_is_a_picture_of_every_classic_control_environment():
    assert set(RENDERERS) == set(FIELDS)


def test_a_cart_on_the_right_is_drawn_on_the_right():
    left, right = (RENDERERS["CartPole-v1"](*params_and_state("CartPole-v1", x=x, theta=0.0)) for x in (-1.2, 1.2))
    # The track is 2.4 times the limit wide: 5.76 units on 600 pixels.
    assert column_of(left, ORANGE) == pytest.approx(300 - 1.2 / 5.76 * 600, abs=2)
    assert column_of(right, ORANGE) == pytest.approx(300 + 1.2 / 5.76 * 600, abs=2)


def test_a_pole_of_positive_angle_leans_to_the_right():
    upright, leaning = (RENDERERS["CartPole-v1"](*params_and_state("CartPole-v1", x=0.0, theta=t)) for t in (0.0, 0.2))
    assert column_of(leaning, ORANGE) > column_of(upright, ORANGE) + 5


def test_a_longer_pole_is_drawn_longer():
    params, state = params_and_state("CartPole-v1", theta=0.0)
    short, long = (RENDERERS["CartPole-v1"](params.replace(length=length), state) for length in (0.5, 0.8))
    assert ((long == ORANGE).all(axis=-1)).sum() > 1.4 * ((short == ORANGE).all(axis=-1)).sum()


def test_a_pendulum_of_angle_zero_stands_upright():
    up, down = (RENDERERS["Pendulum-v1"](*params_and_state("Pendulum-v1", theta=t)) for t in (0.0, np.pi))
    assert row_of(up, ORANGE) < HEIGHT / 2 - 50
    assert row_of(down, ORANGE) > HEIGHT / 2 + 50


def test_a_positive_angle_of_the_pendulum_is_counter_clockwise():
    picture = RENDERERS["Pendulum-v1"](*params_and_state("Pendulum-v1", theta=np.pi / 2))
    assert column_of(picture, ORANGE) < WIDTH / 2 - 50


def test_an_acrobot_at_rest_hangs_down_and_stretched_up_passes_the_line():
    rest, up = (
        RENDERERS["Acrobot-v1"](*params_and_state("Acrobot-v1", joint_angle1=a, joint_angle2=0.0)) for a in (0.0, np.pi)
    )
    assert row_of(rest, BLUE) > HEIGHT / 2 > row_of(up, BLUE)
    line = row_of(rest, (60, 150, 90))
    assert row_of(up, ORANGE) < line < row_of(rest, ORANGE)


def test_the_car_climbs_with_its_hill():
    # y = 0.45 sin(3 x) + 0.55 has its valley at x = -pi / 6 and its top at pi / 6.
    valley, slope = (RENDERERS["MountainCar-v0"](*params_and_state("MountainCar-v0", position=p)) for p in (-np.pi / 6, 0.2))
    assert row_of(slope, BLUE) < row_of(valley, BLUE) - 100
    assert column_of(slope, BLUE) > column_of(valley, BLUE) + 100


def moving_frames(count):
    params, state = params_and_state("CartPole-v1")
    return [RENDERERS["CartPole-v1"](params, state.replace(x=0.1 * i)) for i in range(count)]


def test_a_gif_holds_every_frame_in_order(tmp_path):
    frames = moving_frames(5)
    save_gif(tmp_path / "run.gif", frames, fps=25)
    with Image.open(tmp_path / "run.gif") as gif:
        assert (gif.n_frames, gif.size) == (5, (WIDTH, HEIGHT))
        for i, frame in enumerate(frames):
            gif.seek(i)
            assert gif.info["duration"] == 40
            assert np.abs(np.asarray(gif.convert("RGB"), int) - frame).mean() < 1.0


def test_frames_that_do_not_change_take_their_time_all_the_same(tmp_path):
    save_gif(tmp_path / "still.gif", moving_frames(1) * 4, fps=20)
    with Image.open(tmp_path / "still.gif") as gif:
        total = 0
        for i in range(gif.n_frames):
            gif.seek(i)
            total += gif.info["duration"]
    assert total == 4 * 50


def test_the_last_picture_of_a_gif_is_held(tmp_path):
    first = np.arange(192, dtype=np.uint8).reshape(8, 8, 3)
    save_gif(tmp_path / "held.gif", [np.roll(first, turn, axis=0) for turn in range(3)], fps=2, hold=1.0)
    with Image.open(tmp_path / "held.gif") as gif:
        durations = []
        for i in range(gif.n_frames):
            gif.seek(i)
            durations.append(gif.info["duration"])
    assert durations == [500, 500, 1500]


@pytest.mark.parametrize(
    ("frames", "fps", "message"), [([], 30, "holds no picture"), (np.zeros((1, 2, 2, 3), np.uint8), 0, "fps=0 is out of range")]
)
def test_a_gif_of_nothing_or_at_no_speed_is_refused(tmp_path, frames, fps, message):
    with pytest.raises(ValueError, match=message):
        save_gif(tmp_path / "no.gif", frames, fps)


def test_a_gif_that_cannot_be_finished_leaves_the_file_that_was_there(tmp_path):
    def frames():
        yield from moving_frames(2)
        raise EOFError("the environment died")

    (tmp_path / "run.gif").write_bytes(b"an older one")
    with pytest.raises(EOFError):
        save_gif(tmp_path / "run.gif", frames())
    assert (tmp_path / "run.gif").read_bytes() == b"an older one"
    with pytest.raises(DiskError, match="cannot be written"):
        save_gif(tmp_path / "gone" / "run.gif", moving_frames(2))
