"""A broker that lets in over TLS alone, and who is allowed to: the embedded one with more listeners, users and an authorizer."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from referral_bus.embedded.kafka import EmbeddedKafka
from referral_bus.embedded.ports import free_ports
from referral_bus.log.access import KafkaAccess, secured
from tests.support.certificates import Authority

SECONDS: Final = 20.0

# Who comes by the listeners in the clear is the test itself, and the broker.
_MORE: Final = """\
listeners=BROKER://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller},LOGIN://127.0.0.1:{login},MUTUAL://127.0.0.1:{mutual}
advertised.listeners=BROKER://127.0.0.1:{port},LOGIN://127.0.0.1:{login},MUTUAL://127.0.0.1:{mutual}
listener.security.protocol.map=BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT,LOGIN:SASL_SSL,MUTUAL:SSL
controller.quorum.voters=1@127.0.0.1:{controller}
ssl.keystore.type=PEM
ssl.keystore.location={keystore}
ssl.truststore.type=PEM
ssl.truststore.location={truststore}
listener.name.mutual.ssl.client.auth=required
listener.name.login.sasl.enabled.mechanisms=SCRAM-SHA-512,PLAIN
listener.name.login.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.login.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_plain="{password}";
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=false
super.users=User:ANONYMOUS;User:plain;User:CN=client
"""

PASSWORD: Final = "correct-horse"


class SecuredKafka(EmbeddedKafka):
    """``bootstrap`` is in the clear, for the test alone; ``login`` over TLS with user and password, ``mutual`` with a certificate."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        port, controller, login, mutual = free_ports(4)
        super().__init__(folder / "kafka", port)
        certificate, key = authority.sign("broker", "127.0.0.1")
        keystore = folder / "keystore.pem"
        keystore.write_bytes(key.read_bytes() + certificate.read_bytes())
        self.login, self.mutual = f"127.0.0.1:{login}", f"127.0.0.1:{mutual}"
        self.ca = authority.certificate
        self.more = _MORE.format(
            port=port,
            controller=controller,
            login=login,
            mutual=mutual,
            keystore=keystore,
            truststore=authority.certificate,
            password=PASSWORD,
        )

    def access(self, user: str = "plain", password: str = PASSWORD) -> KafkaAccess:
        mechanism = "PLAIN" if user == "plain" else "SCRAM-SHA-512"
        return secured(self.login, "SASL_SSL", ca=self.ca, mechanism=mechanism, user=user, password=password)

    def admit(self, user: str, *rights: Right) -> None:
        """Let a user in by SCRAM, and let it do these things and no others."""
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        made = UserScramCredentialUpsertion(
            user, ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096), PASSWORD.encode()
        )
        for future in admin.alter_user_scram_credentials([made]).values():
            future.result(SECONDS)
        bindings = [
            AclBinding(kind, name, pattern, f"User:{user}", "*", operation, AclPermissionType.ALLOW)
            for kind, name, pattern, operations in rights
            for operation in operations
        ]
        if bindings:
            for future in admin.create_acls(bindings).values():
                future.result(SECONDS)


Right = tuple[ResourceType, str, ResourcePatternType, tuple[AclOperation, ...]]


def topic(name: str, *operations: AclOperation, prefix: bool = False) -> Right:
    pattern = ResourcePatternType.PREFIXED if prefix else ResourcePatternType.LITERAL
    return ResourceType.TOPIC, name, pattern, operations


def group(name: str, *operations: AclOperation, prefix: bool = False) -> Right:
    pattern = ResourcePatternType.PREFIXED if prefix else ResourcePatternType.LITERAL
    return ResourceType.GROUP, name, pattern, operations


def transactions(prefix: str) -> Right:
    operations = AclOperation.WRITE, AclOperation.DESCRIBE
    return ResourceType.TRANSACTIONAL_ID, prefix, ResourcePatternType.PREFIXED, operations
