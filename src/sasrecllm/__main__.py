"""``python -m sasrecllm``, which torchrun needs."""

from sasrecllm.cli import main

if __name__ == "__main__":
    main()
