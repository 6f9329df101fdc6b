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
