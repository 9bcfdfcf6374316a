"""Makes a key by openssl, and tokens signed with it. Called with a folder; prints the key set and the tokens as one JSON object."""

import base64
import json
import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path(sys.argv[1])


def encoded(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def openssl(*arguments, given=None):
    return subprocess.run(["openssl", *arguments], input=given, check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE).stdout


def key(name):
    path = str(FOLDER / f"{name}.pem")
    openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", path)
    return path


def token(path, claims, header=None):
    header = header or {"alg": "RS256", "typ": "JWT", "kid": "one"}
    said = ".".join(encoded(json.dumps(part).encode()) for part in (header, claims))
    return said + "." + encoded(openssl("dgst", "-sha256", "-sign", path, given=said.encode()))


own, other = key("issuer"), key("stranger")
modulus = openssl("rsa", "-in", own, "-noout", "-modulus").decode().strip().split("=")[1]
now = int(time.time())
claims = {"iss": "https://issuer.example", "sub": "alice", "aud": "web", "iat": now - 10, "exp": now + 3600}
good = token(own, claims)
print(json.dumps({
    "jwks": {"keys": [{"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "one", "e": "AQAB", "n": encoded(bytes.fromhex(modulus))}]},
    "good": good,
    "somebody else": token(own, claims | {"sub": "mallory"}),
    "expired": token(own, claims | {"exp": now - 3600}),
    "for another": token(own, claims | {"aud": "shop"}),
    "by another key": token(other, claims),
    "unsigned": ".".join(encoded(json.dumps(part).encode()) for part in ({"alg": "none"}, claims)) + ".",
    "cut off": good[:-20],
}))
