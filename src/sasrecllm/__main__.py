"""The command ``sasrecllm`` and ``python -m sasrecllm``, which torchrun needs."""

import sys


def main() -> None:
    """The command line; Ctrl-C is told from the first moment, while it is still being imported."""
    try:
        from sasrecllm.cli import main as command_line

        command_line()
    except KeyboardInterrupt:
        import shlex

        again = shlex.join(["sasrecllm", *sys.argv[1:]])
        print(f"interrupted; give the same command again:\n  -> {again}", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    if not sys.flags.safe_path:
        # Python put the current folder first; a torch.py in a run folder is no torch of ours.
        del sys.path[0]
    main()
