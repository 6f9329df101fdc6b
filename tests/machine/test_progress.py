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
