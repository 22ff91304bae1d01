# syntax=docker/dockerfile:1
# The program, the C library that it was linked against, and the public authorities' certificates: no
# shell, no package manager, under 30 MB (tests/packaging/image.sh builds and runs the same without
# an engine). Everything that the process needs is below /opt/rouse: mount your config and certs
# there, and a volume on data. `docker run --network host` spares SIP the NAT of a bridge.

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY src src
COPY config config
COPY bench bench
RUN cargo build --release --locked --bin rouse
RUN config/docker/root.sh target/release/rouse /root-of-image

FROM scratch
COPY --from=build /root-of-image /
# No user has that number on a machine that runs it.
USER 65532:65532
WORKDIR /opt/rouse
VOLUME ["/opt/rouse/data"]
EXPOSE 5060/udp 5060/tcp 5061/tcp
STOPSIGNAL SIGTERM
# It answers an OPTIONS, so its shards live.
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s \
    CMD ["/usr/bin/rouse", "check", "--alive", "--config", "config/rouse.toml"]
ENTRYPOINT ["/usr/bin/rouse"]
CMD ["serve", "--config", "config/rouse.toml"]
