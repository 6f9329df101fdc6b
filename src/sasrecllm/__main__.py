"""``python -m sasrecllm``, which torchrun needs."""

import sys

if __name__ == "__main__":
    if not sys.flags.safe_path:
        # Python put the current folder first; a torch.py in a run folder is no torch of ours.
        del sys.path[0]
    from sasrecllm.cli import main

    main()
