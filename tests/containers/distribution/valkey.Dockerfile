FROM crossfade-distribution
RUN apt-get update && apt-get install -y --no-install-recommends valkey-server valkey-tools \
    && rm -rf /var/lib/apt/lists/*
COPY log-entrypoint.sh /usr/local/bin/
VOLUME /data
WORKDIR /data
ENTRYPOINT ["log-entrypoint.sh"]
CMD ["valkey-server"]
