# A KAFKA_<NAME> is the property <name>, with dots for underscores, as in the official image.
set -euo pipefail

properties=/tmp/server.properties
env | sed -n 's/^KAFKA_\([A-Z0-9_]*\)=/\1=/p' | grep -v -E '^(HEAP_OPTS|OPTS)=' | while IFS='=' read -r name value; do
  name=${name,,}
  printf '%s=%s\n' "${name//_/.}" "$value"
done >"$properties"

cat >/tmp/log4j2.xml <<'XML'
<Configuration status="WARN" shutdownHook="disable">
  <Appenders><Console name="out" target="SYSTEM_OUT"><PatternLayout pattern="%d %p %c: %m%n"/></Console></Appenders>
  <Loggers>
    <Logger name="kafka.server.KafkaRaftServer" level="INFO"/>
    <Root level="WARN"><AppenderRef ref="out"/></Root>
  </Loggers>
</Configuration>
XML

# shellcheck disable=SC2086 # several options
java() { /opt/java/bin/java ${KAFKA_HEAP_OPTS:-} -Dlog4j2.configurationFile=/tmp/log4j2.xml -cp '/opt/kafka/*' "$@"; }

java kafka.tools.StorageTool format --ignore-formatted --cluster-id "${CLUSTER_ID:-5L6g3nShT-eMCtK--X86sw}" --config "$properties"
# shellcheck disable=SC2086
exec /opt/java/bin/java ${KAFKA_HEAP_OPTS:-} -XX:+ExitOnOutOfMemoryError -Dlog4j2.configurationFile=/tmp/log4j2.xml -cp '/opt/kafka/*' \
  kafka.Kafka "$properties"
