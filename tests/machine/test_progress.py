"""What progress prints, and what goes to the log."""

from sasrecllm.machine.progress import Progress


def test_progress_lines_go_to_the_log_even_when_quiet(capsys):
    lines = []
    progress = Progress(lines.append, quiet=True)
    progress.line("a stage ended")
    assert lines == ["a stage ended"] and capsys.readouterr().err == ""
    loud = Progress(lines.append)
    loud.line("again")
    assert "again" in capsys.readouterr().err


def test_a_report_begins_a_bar_of_its_own_each_time_nothing_is_done(monkeypatch, capsys):
    from sasrecllm.machine import progress as module

    clock = iter([0.0, 0.0, 20.0, 100.0, 100.0, 130.0])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    told = Progress().report
    for what, done in (("one", 0), ("one", 1), ("two", 0), ("two", 1)):
        told(what, done, 2)
    assert capsys.readouterr().err == "one 1/2  ETA 20.0 s\ntwo 1/2  ETA 30.0 s\n"


def test_a_bar_says_how_much_time_is_left(capsys, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("sasrecllm.machine.progress.time.monotonic", lambda: now[0])
    told = Progress().bar("lists, popularity")
    for done in (1, 2, 4):
        now[0] += 20.0
        told(done, 4)
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "lists, popularity 1/4  ETA 1:00",
        "lists, popularity 2/4  ETA 40.0 s",
        "lists, popularity 4/4  ETA 0.0 s",
    ]
