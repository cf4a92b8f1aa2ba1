# syntax=docker/dockerfile:1

# The operator and the helm that it runs, both static, and nothing else.
# Build: docker build -t coder-upgrade-operator:v0.1.0 .

FROM golang:1.26-alpine AS helm
WORKDIR /module
# The same pinned module that the tests build helm from.
COPY testbed/components/helm/go.mod testbed/components/helm/go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 go build -mod=readonly -trimpath \
      -ldflags "-s -w -X helm.sh/helm/v4/internal/version.version=$(go list -m -f '{{.Version}}' helm.sh/helm/v4)" \
      -o /helm helm.sh/helm/v4/cmd/helm

FROM rust:1.95-alpine AS operator
# ring compiles some C and assembler.
RUN apk add --no-cache musl-dev
WORKDIR /workspace
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/workspace/target \
    cargo build --release --locked --package coder-upgrade-operator \
    && cp target/release/coder-upgrade-operator /coder-upgrade-operator

FROM scratch
# Official chart repositories are HTTPS; others bring their own authority with the CoderUpgrade.
COPY --from=helm /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=helm /helm /usr/local/bin/helm
COPY --from=operator /coder-upgrade-operator /usr/local/bin/coder-upgrade-operator
LABEL org.opencontainers.image.title="Coder upgrade operator"
LABEL org.opencontainers.image.description="Upgrades Coder on Kubernetes: controller, runner and helm"
LABEL org.opencontainers.image.licenses="Apache-2.0"
ENV PATH=/usr/local/bin
# A number, because `runAsNonRoot` cannot judge a name.
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/coder-upgrade-operator"]
