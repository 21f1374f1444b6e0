"""Print the JSON Schema of an event: python -m workers.events > ops/schema/event.json."""

import json
import sys

from workers.events.schema import schema

if __name__ == "__main__":
    json.dump(schema(), sys.stdout, indent=2)
    print()
