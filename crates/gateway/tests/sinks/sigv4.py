"""Signs a request with AWS' own library at the time at which it was signed; prints the Authorization header.

Standard input: a JSON object with `method`, `url`, `date`, `body`, `id`, `secret` and `region`.
"""
import datetime
import json
import sys

import botocore.auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

given = json.load(sys.stdin)
signed_at = datetime.datetime.strptime(given["date"], "%Y%m%dT%H%M%SZ")
botocore.auth.get_current_datetime = lambda *_, **__: signed_at
request = AWSRequest(given["method"], given["url"], data=given["body"].encode(), headers={})
botocore.auth.S3SigV4Auth(Credentials(given["id"], given["secret"]), "s3", given["region"]).add_auth(request)
print(request.headers["Authorization"])
