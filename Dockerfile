# One image for every process: the command says which. `docker build .` needs BuildKit, which is the default.
FROM rust:1.95.0-bookworm AS build
WORKDIR /src
# The image has the pinned toolchain; without this, rustup would fetch components that only developers need.
ENV RUSTUP_TOOLCHAIN=1.95.0 CARGO_INCREMENTAL=0
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked \
      --package gateway --package deploy-orchestrator --package edge --package candlefish-cli \
    && mkdir /out \
    && cp target/release/gateway target/release/deploy-orchestrator target/release/edge target/release/candlefish /out/

FROM debian:bookworm-slim
# Roots for TLS, and the openssl that makes the keys of a development set-up.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates openssl \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /var/lib/candlefish --create-home candlefish
COPY --from=build /out/ /usr/local/bin/
# No huge pages, whatever the kernel gives by default: they take 16 MiB more of each process at rest.
ENV MIMALLOC_ALLOW_THP=0
USER 10001
WORKDIR /var/lib/candlefish
CMD ["candlefish", "--help"]
