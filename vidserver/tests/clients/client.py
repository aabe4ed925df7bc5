"""Uploads a file with tuspy as the JSON in its argument says, and prints what was asked and answered.

endpoint, token, file, store    where to, as whom, what, and where URLs are kept from one run to the next
metadata, options               of TusClient.uploader, as its documentation names them
"""

import json
import sys

import requests
from tusclient.client import TusClient
from tusclient.storage.filestorage import FileStorage

told = json.loads(sys.argv[1])
asked = []
send = requests.Session.send


def noted(session, request, **options):
    answer = send(session, request, **options)
    offset = answer.headers.get("Upload-Offset")
    asked.append({"method": request.method, "status": answer.status_code, "offset": offset and int(offset)})
    return answer


requests.Session.send = noted

client = TusClient(told["endpoint"], headers={"Authorization": f"Bearer {told['token']}"})
uploader = client.uploader(
    told["file"],
    metadata=told["metadata"],
    store_url=True,
    url_storage=FileStorage(told["store"]),
    retries=50,
    retry_delay=0,
    **told["options"],
)
uploader.upload()
json.dump({"requests": asked, "url": uploader.url}, sys.stdout)
