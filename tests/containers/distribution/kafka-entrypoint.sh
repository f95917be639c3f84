#!/bin/bash
# As the image of Kafka does it: Kafka's own wrapper makes its configuration of KAFKA_*, and formats
# the folder once.
export CLUSTER_ID=${CLUSTER_ID:-5L6g3nShT-eMCtK--X86sw}
said=$(java -cp "/opt/kafka/libs/*" kafka.docker.KafkaDockerWrapper setup \
  --default-configs-dir /etc/kafka/docker --mounted-configs-dir /mnt/shared/config \
  --final-configs-dir /opt/kafka/config 2>&1) \
  || grep -qi "already formatted" <<< "$said" || { echo "$said" >&2; exit 1; }
exec java -Xmx512m -cp "/opt/kafka/libs/*" -Dorg.slf4j.simpleLogger.defaultLogLevel=info \
  kafka.Kafka /opt/kafka/config/server.properties
