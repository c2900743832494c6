"""Reads an ExportLogsServiceRequest with OpenTelemetry's own message types: prints `uid TAB event name TAB body` lines."""
import json
import sys

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

request = ExportLogsServiceRequest()
request.ParseFromString(sys.stdin.buffer.read())
for resource in request.resource_logs:
    names = {pair.key: pair.value.string_value for pair in resource.resource.attributes}
    assert names["service.name"] == "clawstaff", names
    for scope in resource.scope_logs:
        assert scope.scope.name == "clawstaff.audit", scope.scope
        for record in scope.log_records:
            found = {pair.key: pair.value.string_value for pair in record.attributes}
            body = json.loads(record.body.string_value)
            print(json.dumps({
                "uid": found["log.record.uid"],
                "kind": found["clawstaff.kind"],
                "event_name": record.event_name,
                "nanoseconds": record.time_unix_nano,
                "severity": record.severity_number,
                "reason": body["reason"],
            }))
