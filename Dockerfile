# The gateway in a small image: `docker build -t onceway .`
# Needs neither BuildKit nor anything but the two base images and crates.io.

FROM rust:1.95-slim-bookworm AS build
WORKDIR /build
COPY . .
ENV CARGO_PROFILE_RELEASE_STRIP=symbols
RUN cargo build --release --locked --bin onceway

# What the image has: the program, its libraries, whom TLS trusts, how names are looked up. No shell, no package manager,
# no other program, nothing that changes who runs it.
FROM debian:bookworm-slim AS image
COPY --from=build /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ca-certificates.crt
COPY --from=build /build/target/release/onceway /usr/local/bin/onceway
RUN set -eu; umask 022; \
    libraries=$(ldd /usr/local/bin/onceway | sed -n 's/^.*[[:space:]]\(\/[^ ]*\) (0x.*$/\1/p' | sort -u); \
    for file in /usr/local/bin/onceway $libraries; do install -D "$file" "/image$file"; done; \
    echo 'hosts: files dns' >/image/etc/nsswitch.conf; \
    echo 'onceway:x:10001:10001::/var/lib/onceway:/usr/sbin/nologin' >/image/etc/passwd; \
    echo 'onceway:x:10001:' >/image/etc/group; \
    install -d -m 0700 /image/var/lib/onceway

FROM scratch
COPY --from=image /image/ /
# A numeric user, so that an orchestrator can see that it is not root. The embedded store and the audit log, if they are
# used, belong into a volume at /var/lib/onceway.
COPY --from=image --chown=10001:10001 /image/var/lib/ /var/lib/
USER 10001:10001
ENV PATH=/usr/local/bin
WORKDIR /var/lib/onceway

LABEL org.opencontainers.image.title="Onceway" \
    org.opencontainers.image.description="A reverse-proxy idempotency gateway: makes the POSTs of any HTTP API safe to retry" \
    org.opencontainers.image.licenses="MIT OR Apache-2.0" \
    org.opencontainers.image.version="0.1.0"

# 8080: callers. 8081: operators; the configuration must open it beyond 127.0.0.1 to reach it from outside.
EXPOSE 8080 8081

# Draining is done on SIGTERM.
STOPSIGNAL SIGTERM

# Ready means: serving, not draining, and the store answers. Speaks TLS where the file says so.
HEALTHCHECK --interval=5s --timeout=4s --start-period=10s --retries=3 \
    CMD ["onceway", "probe", "--config", "/etc/onceway/onceway.toml"]

ENTRYPOINT ["onceway"]
CMD ["serve", "--config", "/etc/onceway/onceway.toml"]
