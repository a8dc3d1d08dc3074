# A stand-in for apache/kafka. deploy/local/build.py makes its context.
ARG BASE
FROM ${BASE}
COPY java /opt/java
COPY jars /opt/kafka
COPY kafka.sh /opt/kafka.sh
RUN install -d -o 1000 -g 1000 /var/lib/kafka/data
USER 1000:1000
EXPOSE 9092
ENTRYPOINT ["bash", "/opt/kafka.sh"]
