"""What the tests of `bolide batch` share."""
import json
import os

from cli_case import CliCase


def envelope(custom_id, body, url="/v1/completions"):
    """A line of OpenAI's batch form."""
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": body}


def masked(records):
    """Records without what may differ between two equal runs: the time they were made."""
    records = json.loads(json.dumps(records))
    for record in records:
        if record["response"] and "created" in record["response"]["body"]:
            record["response"]["body"]["created"] = 0
    return records


class BatchCase(CliCase):
    def setUp(self):
        self.input, self.out = self.path("in.jsonl"), self.path("out.jsonl")
        for name in os.listdir(self.folder):
            if os.path.isfile(self.path(name)) or os.path.islink(self.path(name)):
                os.remove(self.path(name))

    def write_lines(self, lines):
        """Bytes as they are; otherwise a line for each object or text."""
        if not isinstance(lines, bytes):
            lines = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines).encode()
        return self.write(self.input, lines)

    def command(self, lines, *flags, model=None):
        self.write_lines(lines)
        return ("batch", "-m", model or self.model, "-i", self.input, "-o", self.out, *flags)

    def batch(self, lines, *flags, code=0, model=None, keep=False):
        """Runs a batch to its end: the finished process and the records. `keep`: an output that is there stays there."""
        if not keep and os.path.exists(self.out):
            os.remove(self.out)
        done = self.call(*self.command(lines, *flags, model=model))
        self.assertEqual(done.returncode, code, done.stderr.decode(errors="replace"))
        return done, self.read(self.out)

    @staticmethod
    def content(path):
        with open(path, "rb") as file:
            return file.read()

    @classmethod
    def read(cls, path):
        if not os.path.exists(path):
            return []
        return [json.loads(line) for line in cls.content(path).splitlines()]

    @staticmethod
    def texts(record):
        return [choice["text"] for choice in record["response"]["body"]["choices"]]
