"""A program that speaks the Go Text Protocol and plays by a script: its arguments are what it answers to `genmove`, in turns.

`die` ends it with words on standard error, `silent` answers nothing, `rubbish` says what is no answer, `flood` never ends a
line. `--log FILE` notes every line that it is told.
"""

import sys
import time

arguments = sys.argv[1:]
log = arguments[1] if arguments[:1] == ["--log"] else None
script, place = arguments[2:] if log else arguments, 0
for line in sys.stdin:
    command = line.split()[0]
    if log:
        with open(log, "a") as file:
            file.write(line)
    if command == "genmove":
        said, place = script[place % len(script)], place + 1
        if said == "die":
            print("no more stones\n", file=sys.stderr)
            sys.exit(3)
        if said == "silent":
            time.sleep(60)
        if said == "rubbish":
            print("hello\n", flush=True)
            continue
        while said == "flood":
            sys.stdout.write("=" * 65536)
    else:
        said = {"name": "Script", "version": "7", "final_score": "B+2.5"}.get(command, "")
    print(f"= {said}\n", flush=True)
    if command == "quit":
        break
