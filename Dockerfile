# The gateway in a small image: `docker build -t onceway .`
# Needs neither BuildKit nor anything but the two base images and crates.io.

FROM rust:1.95-slim-bookworm AS build
WORKDIR /build
COPY . .
ENV CARGO_PROFILE_RELEASE_STRIP=symbols
RUN cargo build --release --locked --bin onceway

FROM debian:bookworm-slim
# Trusted certificates, for upstreams and stores behind TLS.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /build/target/release/onceway /usr/local/bin/onceway

# A numeric user, so that an orchestrator can see that it is not root. The embedded store, if it is used,
# belongs into a volume at /var/lib/onceway.
RUN install -d -o 10001 -g 10001 -m 0700 /var/lib/onceway
USER 10001:10001
WORKDIR /var/lib/onceway

# 8080: callers. 8081: operators; the configuration must open it beyond 127.0.0.1 to reach it from outside.
EXPOSE 8080 8081

# Draining is done on SIGTERM.
STOPSIGNAL SIGTERM

# Ready means: serving, not draining, and the store answers. bash alone does it, so no client is installed.
HEALTHCHECK --interval=5s --timeout=4s --start-period=10s --retries=3 \
    CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8081 && printf 'GET /readyz HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n' >&3 && [[ $(timeout 3 cat <&3) == 'HTTP/1.1 200 '* ]]"]

ENTRYPOINT ["onceway"]
CMD ["serve", "--config", "/etc/onceway/onceway.toml"]
