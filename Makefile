# Bellfoundry: all verbs. `make` alone prints them.
MODELS  ?= $(notdir $(patsubst %/,%,$(dir $(wildcard models/*/recipe.toml))))
WEIGHTS ?= seeded
BASES   ?= official
BUILDER ?= auto
export ENGINE GOLDEN TAG DRY_RUN MODEL WEIGHTS ARTIFACTS CHECKPOINT IN OUT VARIANT SEED TEMPERATURE STEPS TEMPO DECODE PLOT \
  PERIODIC UPPER PREFIX SUFFIX DROPOUT TYPICAL BASES BUILDER REGISTRY T5X DATA SAVED_MODEL H5 FROZEN TFJS PTH ONNX HTML \
  SOURCES MIRROR TRUST RELEASE FROM TO TOOLCHAIN SIGNATURE ROUTE FULL
# What stands on the command line is text: a $ in a path refers to nothing.
$(foreach name,$(.VARIABLES),$(if $(filter command,$(origin $(name))),$(eval override $(name) := $$(value $(name)))))

stages    = fetch ask export optimize quantize lite compose
python    = python=$$(scripts/python 3.11) && PYTHONDONTWRITEBYTECODE=1 "$$python" -m
build     = $(python) scripts.build $(filter -j%,$(MFLAGS)) --weights "$$WEIGHTS" $${CHECKPOINT:+--checkpoint "$$CHECKPOINT"} \
  $${SOURCES:+--sources "$$SOURCES"} $${MIRROR:+--mirror "$$MIRROR"} $${TRUST:+--trust "$$TRUST"} $${ROUTE:+--route "$$ROUTE"}
checksums = $(python) scripts.checksums --weights "$$WEIGHTS"
images    = $(python) scripts.images --bases "$$BASES" --builder "$$BUILDER" $${REGISTRY:+--registry "$$REGISTRY"}

.DEFAULT_GOAL := help
.PHONY: help all test verify checksums docs bench play train new convert inspect graph extract bisect package publish push-models \
  matrix compare supported images images-verify engines-verify places-verify golden-verify push pull doctor lock clean \
  $(stages) $(MODELS)

help: ## print the verbs
	@awk -F ':.*## ' '/^[-a-z$$()A-Z ]+:.*## / {sub(/\$$\(sort .*/, "<model>", $$1); sub(/\$$\(stages\)/, "<stage>", $$1); \
	  printf "make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo 'models: $(MODELS) · stages: $(stages) · WEIGHTS=seeded|released|tiny · ENGINE=auto|docker|podman|venv'

all: ## build all models, from the weights to verified artifacts, and check the bytes; MODELS="…" narrows, -j parallelizes
	@$(build) $(MODELS)

$(sort $(MODELS)): ## build one model; CHECKPOINT=path converts your own weights into build/custom/, ROUTE=tfjs exports by way of TensorFlow.js
	@$(build) $@

$(stages): ## build all models up to that stage
	@$(build) --until $@ $(MODELS)

test: ## run the tests; TESTS=tests/scripts narrows, FULL=1 also repeats the proofs that are recorded in checksums/
	@ENGINE=venv scripts/in torch python -m pytest -q $(TESTS)

verify: ## compare every byte that was built with checksums/
	@$(checksums) verify $(MODELS)

checksums: ## record the bytes and the figures of what was built, after an intended change
	@$(checksums) record $(MODELS) && $(python) scripts.docs

docs: ## write what is generated of README.md, docs/ and the cards, out of recipes and of what was measured
	@$(python) scripts.docs

bench: ## time the artifacts and the original framework in one run: a table and a picture of the speed-ups
	@$(python) scripts.bench --weights "$$WEIGHTS" $(MODELS)

play: ## MODEL=coconet IN=melody.mid OUT=chorale.mid (or .png); VARIANT= SEED= PLOT=1 ARTIFACTS=folder, and what its card says
	@$(if $(filter $(MODELS),$(firstword $(MODEL))),,$(error MODEL=$(MODEL): expected one of: $(MODELS)))\
	scripts/in player python -m models.$(firstword $(MODEL)).player --weights "$$WEIGHTS" \
	  $${ARTIFACTS:+--artifacts="$$ARTIFACTS"} $${VARIANT:+--variant="$$VARIANT"} \
	  $${SEED:+--seed="$$SEED"} $${TEMPERATURE:+--temperature="$$TEMPERATURE"} \
	  $${STEPS:+--steps="$$STEPS"} $${TEMPO:+--tempo="$$TEMPO"} $${DECODE:+--decode="$$DECODE"} \
	  $${PERIODIC:+--periodic="$$PERIODIC"} $${UPPER:+--upper="$$UPPER"} $(if $(filter override,$(origin PREFIX)),--prefix="$$PREFIX") \
	  $${SUFFIX:+--suffix="$$SUFFIX"} $${DROPOUT:+--dropout="$$DROPOUT"} $${TYPICAL:+--typical="$$TYPICAL"} \
	  $(if $(filter-out 0,$(PLOT)),--plot) -- "$$IN" "$$OUT"

supported: ## convert small networks of three frameworks, and write into docs/supported.md how well each one converts
	@ENGINE=venv scripts/in torch python -m tests.networks

train: ## MODEL=harmonizer DATA=Jsb16thSeparated.npz: train a model that trains here; OUT=folder SEED=
	@$(if $(wildcard models/$(firstword $(MODEL))/train.py),,$(error MODEL=$(MODEL): expected one that trains here: \
	  $(patsubst models/%/train.py,%,$(wildcard models/*/train.py))))\
	ENGINE=venv scripts/in legacy python -m models.$(firstword $(MODEL)).train --data "$$DATA" $${OUT:+--out="$$OUT"} \
	  $${SEED:+--seed="$$SEED"}

new: ## MODEL=mine FROM=path TOOLCHAIN=legacy|torch|jax [SIGNATURE=name]: write a folder in models/ that converts your own model
	@ENGINE=venv scripts/in torch python -m scripts.new --model="$$MODEL" --toolchain="$$TOOLCHAIN" \
	  $${SIGNATURE:+--signature="$$SIGNATURE"} -- "$$FROM"

convert: ## MODEL=mt3 CHECKPOINT=path OUT=folder [PTH=1]: write a T5X checkpoint for PyTorch; without CHECKPOINT, that of the build
	@ENGINE=venv scripts/in torch python -m scripts.convert --model "$$MODEL" \
	  --checkpoint "$${CHECKPOINT:-build/$$WEIGHTS/$$MODEL/fetch}" $(if $(filter-out 0,$(PTH)),--pth) -- "$$OUT"

inspect: ## SAVED_MODEL=, H5=, FROZEN=, TFJS=, T5X=, PTH= or ONNX=path: list what a file holds and what its conversion needs; HTML=report.html
	@ENGINE=venv scripts/in torch python -m scripts.inspect $${SAVED_MODEL:+--saved-model="$$SAVED_MODEL"} $${H5:+--h5="$$H5"} \
	  $${FROZEN:+--frozen="$$FROZEN"} $${TFJS:+--tfjs="$$TFJS"} $${PTH:+--pth="$$PTH"} $${ONNX:+--onnx="$$ONNX"} \
	  $${HTML:+--html="$$HTML"} -- "$$T5X"

extract: ## ONNX=path FROM=tensor,… TO=tensor,… OUT=piece.onnx: cut a piece out of a graph that runs alone, with its inputs and outputs
	@ENGINE=venv scripts/in torch python -m scripts.extract --onnx="$$ONNX" --from="$$FROM" --to="$$TO" -- "$$OUT"

bisect: ## MODEL=coconet: name the first node of each exported graph that differs from the original, or say that all agree
	@ENGINE=venv scripts/in torch python -m scripts.bisect --weights "$$WEIGHTS" --engine "$$ENGINE" -- "$$MODEL"

graph: ## ONNX=path OUT=graph.svg draws a graph, MODEL=coconet all graphs of a model, into build/
	@ENGINE=venv scripts/in torch python -m scripts.graph --weights "$$WEIGHTS" $${ONNX:+--onnx="$$ONNX"} \
	  $${MODEL:+--model="$$MODEL"} -- "$$OUT"

package: ## write the assets of a release from verified builds into dist/TAG/; a real one needs WEIGHTS=released
	@ENGINE=venv scripts/in release python -m scripts.package --weights "$$WEIGHTS" $${TAG:+--tag "$$TAG"} $(MODELS)

publish: ## TAG=v1.0.0: publish dist/TAG/ as a GitHub release, whole or not at all; DRY_RUN=1 only prints what it would send
	@ENGINE=venv scripts/in release python -m scripts.publish --tag "$$TAG" $(if $(filter-out 0,$(DRY_RUN)),--dry-run)

push-models: ## TAG=v1.0.0 REGISTRY=host/path: push the models of dist/TAG/ as OCI artifacts, by digest
	@ENGINE=venv scripts/in release python -m scripts.push_models --tag "$$TAG" --registry "$$REGISTRY"

matrix: ## print the models and their toolchains as JSON, for CI with a job for each model
	@$(python) scripts.matrix

compare: ## RELEASE=folder: compare what was built with a release's assets, byte by byte; WEIGHTS= as the release's
	@$(python) scripts.compare --weights "$$WEIGHTS" -- "$$RELEASE"

images: ## build the toolchains' images; TOOLCHAINS="torch" narrows, BASES=local needs no registry, BUILDER= chooses
	@$(images) build $(TOOLCHAINS)

images-verify: ## build each image twice from scratch, compare the digests, and record them
	@$(images) verify $(TOOLCHAINS)

engines-verify: ## build in containers of ENGINE=docker, podman or both, and record that the bytes are those in checksums/
	@$(python) scripts.engines

places-verify: ## build the models at toy size in another folder, and record that the bytes are the same
	@$(python) scripts.places $(MODELS)

golden-verify: ## run the tests that take minutes at the real size, and record that they pass
	@ENGINE=venv scripts/in torch python -m tests.proven $(MODELS)

push: ## push the images to REGISTRY=host/path, and record their digests
	@$(images) push $(TOOLCHAINS)

pull: ## pull the images by their recorded digests, from REGISTRY= or from where they were pushed
	@$(images) pull $(TOOLCHAINS)

doctor: ## say what this machine lacks for a build
	@scripts/doctor

lock: ## refresh the hashed locks of images/ from their requirements.in
	@scripts/lock

clean: ## remove build/
	rm -rf build
