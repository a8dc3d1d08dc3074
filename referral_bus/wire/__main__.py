"""``python -m referral_bus.wire``: write the schema files of new and changed messages."""

from referral_bus.wire.schemas import write

for added in write():
    print(f"{added.id}\t{added.name} version {added.version}")
