"""A client of FTP in active mode: the server connects to it. `SERVER NAME`."""

import ftplib
import hashlib
import io
import sys

client = ftplib.FTP(sys.argv[1], "anonymous", "a@example.org", timeout=20)
client.set_pasv(False)
content = "".join(f"{number}\n" for number in range(300_000)).encode()
print(client.storbinary(f"STOR in/{sys.argv[2]}", io.BytesIO(content)))
parts = []
print(client.retrbinary("RETR large", parts.append))
print(hashlib.sha256(b"".join(parts)).hexdigest())
print(client.nlst())
print(client.delete(f"in/{sys.argv[2]}"))
print(client.quit())
