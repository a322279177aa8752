# Bellfoundry: every verb. `make` alone prints them.
MODELS  ?= $(notdir $(patsubst %/,%,$(dir $(wildcard models/*/recipe.toml))))
WEIGHTS ?= seeded
export ENGINE GOLDEN XDG_CACHE_HOME

python   = PYTHONDONTWRITEBYTECODE=1 $$(scripts/python 3.11)
build    = $(python) -m scripts.build $(filter -j%,$(MAKEFLAGS)) --weights $(WEIGHTS) $(if $(CHECKPOINT),--checkpoint '$(CHECKPOINT)')
stages   = fetch export optimize quantize compose
given    = $(if $($(1)),--$(2) '$($(1))')

.DEFAULT_GOAL := help
.PHONY: help all test verify checksums bench play doctor lock clean $(stages) $(MODELS)

help: ## print the verbs
	@awk -F ':.*## ' '/^[a-z$$()]+:.*## /{gsub(/\$$\(MODELS\)/, "<model>", $$1); gsub(/\$$\(stages\)/, "<stage>", $$1); printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo 'models: $(MODELS) · stages: $(stages) · WEIGHTS=seeded|tiny · ENGINE=auto|venv'

all: ## cast every model, fetch to verify, and check the bytes; MODELS="…" narrows, -j parallelizes
	@$(build) $(MODELS)

$(MODELS): ## cast one model; CHECKPOINT=folder casts your own weights into build/custom/
	@$(build) $@

$(stages): ## every model up to that stage
	@$(build) --until $@ $(MODELS)

test: ## the whole test suite
	@scripts/in torch python -m pytest -q $(TESTS)

verify: ## compare what was built with checksums/, every byte of it
	@$(python) -m scripts.checksums --weights $(WEIGHTS) verify $(MODELS)

checksums: ## record what was built, after an intended change
	@$(python) -m scripts.checksums --weights $(WEIGHTS) record $(MODELS)

bench: ## artifacts against the original framework, one run, ratios: a table and a picture
	@$(python) -m scripts.bench --weights $(WEIGHTS) $(MODELS)

play: ## MODEL=coconet IN=melody.mid OUT=chorale.mid; VARIANT= SEED= TEMPERATURE= STEPS= PLOT=1
	@scripts/in torch python -m models.$(MODEL).player '$(IN)' '$(OUT)' --weights $(WEIGHTS) $(call given,VARIANT,variant) \
	  $(call given,SEED,seed) $(call given,TEMPERATURE,temperature) $(call given,STEPS,steps) $(if $(PLOT),--plot)

doctor: ## say what this machine lacks
	@scripts/doctor

lock: ## refresh the hashed locks of images/ from their requirements.in
	@scripts/lock

clean: ## remove build/
	rm -rf build
