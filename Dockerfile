# syntax=docker/dockerfile:1
# Everything that the process needs is below /opt/rouse: mount your config and certs there, and a
# volume on data. `docker run --network host` spares SIP the NAT of a bridge.

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY src src
COPY config config
COPY bench bench
RUN cargo build --release --locked --bin rouse

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin rouse \
    && install -d -o rouse -g rouse /opt/rouse /opt/rouse/data /opt/rouse/certs
COPY --from=build /src/target/release/rouse /usr/local/bin/rouse
COPY config /opt/rouse/config
USER rouse
WORKDIR /opt/rouse
VOLUME ["/opt/rouse/data"]
EXPOSE 5060/udp 5060/tcp 5061/tcp
STOPSIGNAL SIGTERM
# Accepting a connection on the SIP port is being alive.
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s \
    CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/5060"]
ENTRYPOINT ["rouse"]
CMD ["serve", "--config", "config/rouse.toml"]
