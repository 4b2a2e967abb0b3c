"""SIGINT and SIGTERM: the first lets a job save, the second ends the process, and one line says so."""

from __future__ import annotations

import signal
import threading

import pytest

from helpers import ended, started
from jaxrl.interrupts import heard_of, held_back

COMMAND = """
import sys, time
from jaxrl.interrupts import ended_at_once, held_back
with ended_at_once(lambda: "interrupted; nothing was written"):
    with held_back() as interrupted:
        print("ready", flush=True)
        while not interrupted():
            time.sleep(0.01)
        print("saved", flush=True)
        if "twice" in sys.argv:
            time.sleep(60)
    print("outside", flush=True)
    time.sleep(60)
"""
PROMISE = "jaxrl: finishing the present stretch, then saving; again to stop now\n"
LAST_WORDS = "jaxrl: interrupted; nothing was written\n"


@pytest.mark.parametrize("argument", ["twice", "outside"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_interrupt_is_noted_and_the_second_ends_the_process(number, argument):
    with started("-c", COMMAND, argument) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.stdout.readline() == "saved\n"
        if argument == "outside":
            assert process.stdout.readline() == "outside\n"
        process.send_signal(number)
        _, err = ended(process, 130, seconds=10)
    assert err == PROMISE + LAST_WORDS


def test_an_interrupt_in_python_is_noted_once_and_raised_the_second_time(capsys):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with held_back() as interrupted:
        assert not interrupted()
        signal.raise_signal(signal.SIGINT)
        assert interrupted()
        assert capsys.readouterr().err == PROMISE
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert before == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]


def test_a_handler_of_the_users_own_stays(monkeypatch):
    heard = []
    before = signal.signal(signal.SIGTERM, lambda *arguments: heard.append(1))
    try:
        with held_back() as interrupted:
            signal.raise_signal(signal.SIGTERM)
            assert heard == [1] and not interrupted()
    finally:
        signal.signal(signal.SIGTERM, before)


def test_another_process_interrupts_a_job_within_and_a_job_around_it_hears_of_signals_alone():
    word = []
    with held_back() as outer, heard_of(lambda: outer() or bool(word)), held_back() as inner:
        assert not inner()
        word.append("stop")
        assert inner() and not outer()
        word.clear()
        signal.raise_signal(signal.SIGINT)
        assert inner() and outer()


def test_a_job_in_another_thread_leaves_signals_alone():
    noted = []

    def job():
        with held_back() as interrupted:
            noted.append(interrupted())

    thread = threading.Thread(target=job)
    thread.start()
    thread.join()
    assert noted == [False]
