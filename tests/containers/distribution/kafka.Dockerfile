# Built in the folder of Kafka's jars, with the entry point beside them.
FROM crossfade-distribution
RUN apt-get update \
    && apt-get install -y --no-install-recommends bash openjdk-21-jre-headless \
    && rm -rf /var/lib/apt/lists/* && useradd --system appuser \
    && mkdir -p /opt/kafka/config /etc/kafka/docker /mnt/shared/config /var/lib/kafka/data \
    && touch /etc/kafka/docker/server.properties /etc/kafka/docker/log4j2.yaml \
       /etc/kafka/docker/tools-log4j2.yaml \
    && chown -R appuser /opt/kafka /etc/kafka /mnt/shared /var/lib/kafka
COPY jars /opt/kafka/libs
COPY kafka-entrypoint.sh /usr/local/bin/
VOLUME /var/lib/kafka/data
USER appuser
CMD ["kafka-entrypoint.sh"]
