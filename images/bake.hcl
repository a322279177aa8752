# All images at once with buildx: docker buildx bake --file images/bake.hcl
# `make images` and `make images-verify` call it too, and add the labels.
variable "SOURCE_DATE_EPOCH" { default = "1577836800" }

group "default" { targets = ["jax", "legacy", "torch"] }

target "toolchain" {
  name       = toolchain
  matrix     = { toolchain = ["jax", "legacy", "torch"] }
  context    = "images"
  dockerfile = "${toolchain}/Dockerfile"
  args       = { SOURCE_DATE_EPOCH = SOURCE_DATE_EPOCH }
  tags       = ["localhost/bellfoundry-${toolchain}"]
  output     = ["type=docker,rewrite-timestamp=true"]
  attest     = ["type=provenance,disabled=true", "type=sbom,disabled=true"]
}
