"""bolide batch: forms of lines, records, exit codes, files that must not be harmed."""
import json
import os
import re
import resource
import subprocess

import checkpoint
from batch_case import BatchCase, envelope, masked
from checkpoint import BOS_ID, CHAIN, VOCAB, ids_of
from cli_case import BINARY, TIMEOUT, environment, main

GREEDY = ("--temperature", "0")


class Forms(BatchCase):
    def test_record(self):
        """The whole contract of a record: additions only."""
        done, records = self.batch([envelope("first", {"model": "x", "prompt": "a", "max_tokens": 3, "temperature": 0, "seed": 5})])
        self.assertEqual(done.stdout, b"")
        record, = records
        self.assertEqual(set(record), {"id", "custom_id", "response", "error", "line", "seed", "run"})
        self.assertRegex(record["id"], r"^batch_req_[0-9a-f]{16}$")
        self.assertEqual((record["custom_id"], record["error"], record["line"], record["seed"]), ("first", None, 1, 5))
        self.assertEqual(set(record["run"]), {"schema_version", "input", "settings", "seed"})
        response = record["response"]
        self.assertEqual((set(response), response["status_code"]), ({"status_code", "request_id", "body"}, 200))
        body = response["body"]
        self.assertIsInstance(body.pop("created"), int)
        self.assertRegex(body.pop("id"), "^cmpl-")
        self.assertEqual(body, {
            "object": "text_completion", "model": self.model,
            "choices": [{"index": 0, "text": "bcd", "logprobs": None, "finish_reason": "length", "stop_reason": None}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 3, "total_tokens": 4}})

    def test_lines_of_every_form(self):
        _, records = self.batch([envelope("e", {"prompt": "a"}), {"prompt": "b"}, "", {"prompt": ["c", "d"], "custom_id": "two"},
                                 {"prompt": ids_of("ab")}, {"prompt": [ids_of("e"), "f"]}], *GREEDY, "-n", "2")
        self.assertEqual([(r["line"], r["custom_id"], self.texts(r)) for r in records],
                         [(1, "e", ["bc"]), (2, "2", ["cd"]), (4, "two", ["de", "ef"]), (5, "5", ["cd"]), (6, "6", ["fg", "gh"])])

    def test_text(self):
        lines = b"\xef\xbb\xbfa\r\n\n  \nb\n{x}\nc"
        _, records = self.batch(lines, *GREEDY, "-n", "1")
        self.assertEqual([(r["line"], r["custom_id"], self.texts(r)[0]) for r in records[:2]], [(1, "1", "b"), (4, "4", "c")])
        self.assertEqual([r["line"] for r in records[2:]], [5, 6])
        for name in ("text", "txt"):  # what looks like JSON is a prompt here
            _, records = self.batch([{"prompt": "a"}], *GREEDY, "-n", "1", "--input-format", name)
            self.assertEqual(records[0]["response"]["body"]["usage"]["prompt_tokens"], len('{"prompt": "a"}'))

    def test_fields_win_over_flags(self):
        flags = ("-n", "5", "--temperature", "5", "--stop", "z", "--logit-bias", f"{ids_of('q')[0]}:500", "--n", "2")
        _, records = self.batch([
            {"prompt": "a", "n": 1, "max_tokens": 2, "temperature": 0, "logit_bias": {}},
            {"prompt": "a", "n": 1, "logit_bias": {}, "temperature": 0, "max_tokens": None, "stop": ["de", "x"]},
            {"prompt": "a", "n": 1, "logit_bias": {}, "temperature": 0, "stop": "de", "include_stop_str_in_output": True},
            {"prompt": "a"},
            {"prompt": "a", "n": 1, "logit_bias": {str(ids_of("v")[0]): 500}, "max_completion_tokens": 1, "max_tokens": 3},
            {"prompt": "a", "n": 1, "logit_bias": {}, "temperature": 0, "stop_token_ids": ids_of("d")},
            {"prompt": "a", "n": 1, "logit_bias": {str(BOS_ID): 900}, "skip_special_tokens": False, "max_tokens": 1},
            {"prompt": "a", "n": 1, "logit_bias": {}, "top_k": 1, "max_tokens": 3, "echo": True}], *flags)
        self.assertEqual([self.texts(r) for r in records],
                         [["bc"], ["bc"], ["bcde"], ["qqqqq", "qqqqq"], ["v"], ["bc"], ["<|bos|>"], ["abcd"]])
        reasons = [(c["finish_reason"], c["stop_reason"]) for r in records for c in r["response"]["body"]["choices"]]
        self.assertEqual(reasons[:3], [("length", None), ("stop", "de"), ("stop", "de")])
        self.assertEqual(reasons[6], ("stop", ids_of("d")[0]))

    def test_logprobs(self):
        _, (record,) = self.batch([{"prompt": "0123456789"[:1], "logprobs": 2, "max_tokens": 2, "temperature": 0}])
        logprobs = record["response"]["body"]["choices"][0]["logprobs"]
        self.assertEqual((logprobs["tokens"], logprobs["text_offset"]), (["1", "2"], [0, 1]))
        for token, value, top in zip(logprobs["tokens"], logprobs["token_logprobs"], logprobs["top_logprobs"]):
            self.assertEqual((len(top), top[token]), (2, value))

    def test_half_a_character(self):
        count = len(CHAIN[:CHAIN.index("é")]) + 1
        _, (record,) = self.batch([{"prompt": "a", "max_tokens": count, "temperature": 0, "logprobs": 0}])
        self.assertEqual(self.texts(record), [CHAIN[:CHAIN.index("é")] + "\ufffd"])

    def test_generation_config_and_add_special(self):
        model = checkpoint.write_checkpoint(self.path("bos"), add_bos=True, generation={"do_sample": False})
        done, records = self.batch([{"prompt": "a"}, {"prompt": "a", "add_special_tokens": False}], "-n", "1", model=model)
        self.assertIn("from generation_config.json: do_sample false (greedy)", done.stderr.decode())
        self.assertEqual([r["response"]["body"]["usage"]["prompt_tokens"] for r in records], [2, 1])
        _, records = self.batch([{"prompt": "a"}], "-n", "1", "--no-add-special", model=model)
        self.assertEqual((self.texts(records[0]), records[0]["response"]["body"]["usage"]["prompt_tokens"]), (["b"], 1))

    def test_truncate(self):
        long = "".join(chr(ord("A") + i % 26) for i in range(60))
        done, (record,) = self.batch([{"prompt": long, "max_tokens": 4}], "-c", "32", "--truncate", "left", *GREEDY)
        self.assertEqual(record["response"]["body"]["usage"]["prompt_tokens"], 28)
        self.assertIn("1 prompts were too long and have been cut on the left", done.stderr.decode())


TEMPLATE = """{%- if tools %}T{{ tools | length }}{% endif %}
{%- for m in messages %}{{ '<' + m.role[0] + '>' + m.content }}{% endfor %}
{%- if messages[-1].content == 'no' %}{{ raise_exception('not this one') }}{% endif %}
{%- if enable_thinking is defined %}{{ '!' if enable_thinking else '?' }}{% endif %}
{%- if add_generation_prompt %}<a>{% endif %}"""


class Chats(BatchCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.chat = checkpoint.write_checkpoint(cls.path("chat"), add_bos=True)
        cls.write(cls.path("chat", "chat_template.jinja"), TEMPLATE)

    def prompts(self, lines, *flags, code=0):
        """What the model saw: the prompt's length, and its text by way of the template command's own rules."""
        _, records = self.batch(lines, "-n", "3", *GREEDY, *flags, model=self.chat, code=code)
        return [r["response"]["body"]["usage"]["prompt_tokens"] if r["response"]["status_code"] == 200 else r["response"]["body"]["error"]["message"]
                for r in records]

    def test_record(self):
        _, (record,) = self.batch([envelope("c", {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 2, "logprobs": True,
                                                  "top_logprobs": 2, "temperature": 0}, "/v1/chat/completions")], model=self.chat)
        body = record["response"]["body"]
        self.assertRegex(body["id"], "^chatcmpl-")
        self.assertEqual((body["object"], body["usage"]["prompt_tokens"]), ("chat.completion", len("<u>hi<a>")))
        choice = body["choices"][0]
        # The prompt ends in ">", so the first token follows it as the model's chain says.
        self.assertEqual((set(choice), choice["message"]["role"]), ({"index", "message", "logprobs", "finish_reason", "stop_reason"}, "assistant"))
        content = choice["logprobs"]["content"]
        self.assertEqual([set(token) for token in content], [{"token", "logprob", "bytes", "top_logprobs"}] * 2)
        self.assertEqual("".join(token["token"] for token in content), choice["message"]["content"])
        for token in content:
            self.assertEqual((len(token["top_logprobs"]), token["top_logprobs"][0]["token"]), (2, token["token"]))
            if token["bytes"] is not None:
                self.assertEqual(bytes(token["bytes"]).decode(), token["token"])

    def test_what_the_template_is_given(self):
        user = {"role": "user", "content": "hi"}
        self.assertEqual(self.prompts([
            {"messages": [user]},
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "h"}, {"type": "text", "text": "i"}]}]},
            {"messages": [user], "tools": [{"type": "function"}]},
            {"messages": [user], "chat_template_kwargs": {"enable_thinking": False}},
            {"messages": [user], "add_generation_prompt": False},
            {"messages": [{"role": "system", "content": "s"}, user]},
            {"messages": [{"role": "user", "content": "no"}]},
            {"prompt": "hi"}], code=3), [8, 8, 10, 9, 5, 12, self.prompts([{"messages": [{"role": "user", "content": "no"}]}], code=3)[0], 3])
        self.assertIn("not this one", self.prompts([{"messages": [{"role": "user", "content": "no"}]}], code=3)[0])

    def test_special_tokens_of_the_template(self):
        self.assertEqual(self.prompts([{"messages": [{"role": "user", "content": "x"}]}], "--chat-template",
                                      "{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}"), [2])

    def test_flags(self):
        lines = [{"messages": [{"role": "user", "content": "hi"}]}, {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "hi"}]},
                 {"prompt": "hi"}, {"prompt": ["hi", "ho"]}, envelope("r", {"prompt": "hi"})]
        self.assertEqual(self.prompts(lines), [8, 12, 3, 6, 3])
        self.assertEqual(self.prompts(lines, "--chat"), [8, 12, 8, 6, 3])
        self.assertEqual(self.prompts(lines, "--chat", "--system", "be"), [13, 12, 13, 6, 3])
        self.assertEqual(self.prompts(lines, "--think", "--chat-template-kwargs", '{"tools": [1, 2]}'), [11, 15, 3, 6, 3])
        self.assertEqual(self.prompts(b"hi\nyou", "--chat"), [8, 9])

    def test_markers_in_messages(self):
        lines = [{"messages": [{"role": "user", "content": "<|eos|>"}]}]
        self.assertEqual(self.prompts(lines), [3 + 7 + 3])
        self.assertEqual(self.prompts(lines, "--allow-special"), [3 + 1 + 3])
        done, _ = self.batch(lines * 3, "-n", "1", model=self.chat)
        self.assertEqual(done.stderr.decode().count("messages contain '<|eos|>', which counted as text"), 1)

    def test_flags_from_a_file(self):
        lines = [{"prompt": "a", "ignore_eos": True}] * 2
        self.write(self.path("flags.json"), '{"max-tokens": 3, "temperature": 0}')
        _, records = self.batch(lines, "--config", self.path("flags.json"))
        self.assertEqual([r["response"]["body"]["usage"]["completion_tokens"] for r in records], [3, 3])
        _, records = self.batch(lines, "--config", self.path("flags.json"), "-n", "5")
        self.assertEqual([r["response"]["body"]["usage"]["completion_tokens"] for r in records], [5, 5])

    def test_truncate(self):
        said = "".join(chr(ord("A") + i % 26) for i in range(60))
        lines = [{"messages": [{"role": "system", "content": "be"}, {"role": "user", "content": said}], "max_tokens": 4}]
        self.assertIn("prompt has 71 tokens", self.prompts(lines, "-c", "32", code=3)[0])
        self.assertEqual(self.prompts(lines, "-c", "32", "--truncate", "left"), [28])

    def test_resume_refuses_another_template(self):
        lines = [{"messages": [{"role": "user", "content": "hi"}]}] * 3
        self.batch(lines, "-s", "1", "-n", "1", model=self.chat)
        for flags in (("--system", "x"), ("--think",), ("--chat-template", "{{ messages[0].content }}")):
            self.fails(2, *self.command(lines, "-s", "1", "-n", "1", "--resume", *flags, model=self.chat), says="other flags")

    def test_models_without_a_template(self):
        _, records = self.batch([{"messages": [{"role": "user", "content": "hi"}]}, {"prompt": "a"}], "-n", "1", *GREEDY, code=3)
        self.assertIn("no chat template", records[0]["response"]["body"]["error"]["message"])
        self.assertEqual(self.texts(records[1]), ["b"])
        self.fails(2, *self.command([{"prompt": "a"}], "--chat", "--overwrite"), says=("--chat needs a chat template", "--chat-template FILE"))

    def test_template_that_cannot_be_read(self):
        broken = checkpoint.write_checkpoint(self.path("unread"))
        self.write(self.path("unread", "chat_template.jinja"), "{% if %}")
        self.fails(4, *self.command([{"messages": [{"role": "user", "content": "hi"}]}], model=broken), says=("chat_template.jinja", "line 1"))
        _, records = self.batch([{"prompt": "a"}], "-n", "1", *GREEDY, model=broken)
        self.assertEqual(self.texts(records[0]), ["b"], "prompts need no template")


class BadLines(BatchCase):
    """Each with what its record says; those of the first group are no requests at all, those of the second get status 400."""

    NO_REQUESTS = (
        (b'{"prompt": ', "not valid JSON"), (b"[1]", "not a JSON object"), (b'{"text": "a"}', "neither"),
        (b'{"prompt": "a", "messages": []}', "both"), (b'{"prompt": "caf\xe9"}', "not valid JSON"), (b'{"custom_id": 5, "prompt": "a"}', "custom_id"),
        (b'{"custom_id": "", "prompt": "a"}', "custom_id"),
        (b'{"method": "POST", "url": "/v1/completions", "body": {"prompt": "a"}}', "custom_id"),
        (b'{"custom_id": "c", "method": "GET", "url": "/v1/completions", "body": {"prompt": "a"}}', "POST"),
        (b'{"custom_id": "c", "method": "POST", "url": "/v1/embeddings", "body": {"input": "a"}}', "/v1/embeddings"),
        (b'{"custom_id": "c", "method": "POST", "url": "/v1/completions", "body": "a"}', "body"),
    )
    REQUESTS = (
        ({"prompt": ""}, "prompt", "empty"), ({"prompt": []}, "prompt", "token ids"), ({"prompt": 5}, "prompt", "must be"),
        ({"prompt": [1, "a"]}, "prompt", "token ids"), ({"prompt": [1, -2]}, "prompt", "token ids"), ({"prompt": [VOCAB]}, "prompt", "vocabulary"),
        ({"prompt": ["a", [VOCAB]]}, "prompt", "vocabulary"),
        ({"prompt": "A" * 600}, "prompt", "prompt has 600 tokens, context is 512 (from config.json). Shorten it, or --truncate left"),
        ({"prompt": "a", "temperature": -1}, "temperature", "outside its range"), ({"prompt": "a", "temperature": "hot"}, "temperature", "a number"),
        ({"prompt": "a", "temperature": 1e300}, "temperature", "ordinary size"), ({"prompt": "a", "top_p": 0}, "top_p", "outside"),
        ({"prompt": "a", "top_k": 1.5}, "top_k", "an integer"), ({"prompt": "a", "max_tokens": -1}, "max_tokens", "an integer from 0"),
        ({"prompt": "a", "max_tokens": 10**19}, "max_tokens", "an integer from 0"), ({"prompt": "a", "seed": -1}, "seed", "an integer from 0"),
        ({"prompt": "a", "n": 0}, "n", "an integer from 1"), ({"prompt": ["a"] * 100, "n": 100}, "prompt", "sequences"),
        ({"prompt": "a", "stop": 5}, "stop", "a string or a list"), ({"prompt": "a", "stop": ""}, "stop", "empty"),
        ({"prompt": "a", "stop_token_ids": [VOCAB]}, "stop_token_ids", str(VOCAB)), ({"prompt": "a", "logprobs": 50}, "logprobs", "0 to 20"),
        ({"prompt": "a", "logit_bias": {"x": 1}}, "logit_bias", "token ids"), ({"prompt": "a", "logit_bias": {"9999": 1}}, "logit_bias", "9999"),
        ({"prompt": "a", "repetition_penalty": 0}, "repetition_penalty", "above 0"), ({"prompt": "a", "presence_penalty": 3}, "presence_penalty", "-2 to 2"),
        ({"prompt": "a", "stream": True}, "stream", "not supported"), ({"prompt": "a", "response_format": {"type": "json_object"}}, "response_format", "not supported"),
        ({"prompt": "a", "suffix": "b"}, "suffix", "not supported"), ({"prompt": "a", "min_tokens": 3}, "min_tokens", "not supported"),
        ({"prompt": "a", "echo": True, "logprobs": 1}, "echo", "logprobs"), ({"prompt": "a", "ignore_eos": 1}, "ignore_eos", "true or false"),
        ({"messages": "hi"}, "messages", "a list of messages"), ({"messages": []}, "messages", "a list of messages"),
        ({"messages": [{"content": "a"}]}, "messages", "role"), ({"messages": [{"role": "user"}]}, "messages", "content"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, "messages", "only text"),
        ({"messages": [{"role": "user", "content": "a"}], "top_logprobs": 3}, "top_logprobs", "logprobs"),
        ({"messages": [{"role": "user", "content": "a"}], "tools": {}}, "tools", "a list"),
    )

    def test_all_become_records_and_the_run_goes_on(self):
        lines = [line for line, _ in self.NO_REQUESTS] + [json.dumps(request).encode() for request, _, _ in self.REQUESTS]
        done, records = self.batch(b"\n".join([b'{"prompt": "a"}', *lines, b'{"prompt": "b"}', b""]), *GREEDY, "-n", "1", code=3)
        self.assertEqual([r["line"] for r in records], list(range(1, len(lines) + 3)))
        self.assertEqual((self.texts(records[0]), self.texts(records[-1])), (["b"], ["c"]))
        for (line, says), record in zip(self.NO_REQUESTS, records[1:]):
            self.assertIsNone(record["response"], line)
            self.assertEqual(record["error"]["code"], "invalid_line")
            self.assertTrue(record["error"]["message"].startswith(f"line {record['line']}: "))
            self.assertIn(says, record["error"]["message"])
        self.assertIsNone(records[1]["custom_id"])
        self.assertEqual(records[9]["custom_id"], "c")
        for (request, field, says), record in zip(self.REQUESTS, records[1 + len(self.NO_REQUESTS):]):
            self.assertIsNone(record["error"], request)
            self.assertEqual(record["response"]["status_code"], 400)
            error = record["response"]["body"]["error"]
            self.assertEqual(set(error), {"message", "type", "param", "code"})
            self.assertEqual((error["type"], error["param"]), ("invalid_request_error", field), error["message"])
            self.assertIn(says, error["message"])
            self.assertEqual(error["code"], "context_length_exceeded" if "context is" in says else None)
        text = done.stderr.decode()
        self.assertRegex(text, r"line 2: not valid JSON")
        self.assertIn("further bad lines", text)
        self.assertRegex(text, rf"batch: 2 ok, {len(lines)} failed \(lines 2, 3, 4, .*\.\.\.\), [0-9.]+ s, [0-9,]+ output tok/s → ")

    def test_message_names_the_failed_lines(self):
        done, _ = self.batch([{"prompt": "a"}, {"prompt": "a", "n": 0}, {"prompt": "a"}, {"prompt": [9999]}], "-n", "1", code=3)
        self.assertRegex(done.stderr.decode(), r"\nbatch: 2 ok, 2 failed \(lines 2, 4\), [0-9.]+ s, [0-9,]+ output tok/s → .*out\.jsonl\n$")

    def test_line_that_is_too_long(self):
        long = b'{"prompt": "' + b"a" * (33 << 20) + b'"}'
        _, records = self.batch(b'{"prompt": "a"}\n' + long + b'\n{"prompt": "b"}', "-n", "1", *GREEDY, code=3)
        self.assertIn("longer than 32.0 MiB", records[1]["error"]["message"])
        self.assertEqual(self.texts(records[2]), ["c"])

    def test_deep_nesting(self):
        _, records = self.batch(b'{"prompt": ' + b"[" * 100000 + b'\n{"prompt": ' + b"[" * 90000 + b"]" * 90000 + b"}", code=3)
        self.assertEqual(len(records), 2)

    def test_error_file(self):
        errors = self.path("errors.jsonl")
        lines = [{"prompt": "a"}, {"prompt": ""}, {"prompt": "b"}]
        _, records = self.batch(lines, "-n", "1", "--error-file", errors, code=3)
        self.assertEqual([r["line"] for r in records], [1, 3])
        self.assertEqual([r["line"] for r in self.read(errors)], [2])
        self.fails(2, *self.command(lines, "--error-file", errors, "--overwrite", "--resume"), says="--overwrite")
        self.fails(2, *self.command(lines, "-n", "1", "--error-file", errors), says="--resume")
        before = self.content(self.out), self.content(errors)
        again = self.call(*self.command(lines, "-n", "1", "--error-file", errors, "--resume"))
        self.assertEqual((again.returncode, self.content(self.out), self.content(errors)), (3, *before))

    def test_repeated_ids_are_reported(self):
        lines = [{"prompt": "a", "custom_id": name} for name in ("x", "y", "x", "z", "x")]
        text = self.batch(lines, "-n", "1")[0].stderr.decode()
        for line in (3, 5):
            self.assertIn(f"line {line}: custom_id 'x' is that of line 1", text)
        self.assertNotIn("'y'", text)

    def test_unknown_fields_and_strict(self):
        lines = [{"prompt": "a", "temprature": 0}, {"prompt": "a", "user": "me", "model": "other"}]
        done, _ = self.batch(lines, "-n", "1")
        self.assertEqual(done.stderr.decode().count("temprature"), 1)
        self.assertIn("the model 'other'", done.stderr.decode())
        _, records = self.batch(lines, "-n", "1", "--strict", code=3)
        self.assertIn("unknown field 'temprature'", records[0]["response"]["body"]["error"]["message"])
        self.assertEqual(records[1]["response"]["status_code"], 200)

    def test_fail_fast(self):
        line = self.fails(1, *self.command([{"prompt": "a"}, {"prompt": 5}], "--fail-fast"), says=("line 2", "--fail-fast"))
        self.assertIn("must be", line)
        self.assertFalse(os.path.exists(self.out))
        line = self.fails(1, *self.command([{"prompt": "a"}, {"prompt": [9999]}], "--fail-fast", "-n", "1"), says=("line 2", "--fail-fast"))
        self.assertIn("vocabulary", line)


class Order(BatchCase):
    LINES = [{"prompt": "a", "max_tokens": 400, "ignore_eos": True}] + [{"prompt": "a", "max_tokens": 1 + i % 7} for i in range(150)]

    def test_input_order_and_completion_order(self):
        flags = ("--temperature", "90", "-s", "3", "--max-num-seqs", "8")
        _, ordered = self.batch(self.LINES, *flags)
        self.assertEqual([r["line"] for r in ordered], list(range(1, 152)))
        _, unordered = self.batch(self.LINES, *flags, "--unordered")
        lines = [r["line"] for r in unordered]
        self.assertEqual(sorted(lines), list(range(1, 152)))
        self.assertNotEqual(lines[0], 1, "the long first line is not the first to end")
        self.assertEqual(masked(sorted(unordered, key=lambda r: r["line"])), masked(ordered))

    def test_records_do_not_depend_on_batch_mates(self):
        lines = [{"prompt": chr(97 + i % 26) * (1 + 7 * i % 90), "max_tokens": 5 + i % 11, "temperature": 90, "seed": 100 + i, "n": 1 + i % 2,
                  "repetition_penalty": 1.1} for i in range(40)]
        texts = [self.texts(r) for r in self.batch(lines)[1]]
        self.assertGreater(len({text for pair in texts for text in pair}), 35)
        for flags in (("--max-num-seqs", "1"), ("--max-num-batched-tokens", "16"), ("-t", "1", "--max-num-seqs", "7"),
                      ("--kv-cache-memory", "290K", "-c", "512")):
            self.assertEqual([self.texts(r) for r in self.batch(lines, *flags)[1]], texts, flags)
        self.assertEqual([self.texts(r) for r in self.batch(lines[17:18])[1]], texts[17:18])

    def test_a_record_can_be_made_again_by_generate(self):
        _, records = self.batch([{"prompt": "a", "n": 2}] * 3, "--temperature", "90", "-n", "12", "-s", "77")
        self.assertEqual(len({text for r in records for text in self.texts(r)}), 6)
        for record in records:
            once = self.ok("generate", "-m", self.model, "-p", "a", "--temperature", "90", "-n", "12", "--n", "2", "-s", str(record["seed"]),
                           "--output-format", "json")
            self.assertEqual([c["text"] for c in json.loads(once.stdout)["choices"]], self.texts(record))

    def test_memory_does_not_grow_with_the_file(self):
        def peak(count):
            lines = b"".join(b'{"custom_id": "request-%d", "method": "POST", "url": "/v1/completions", "body": {"prompt": "a"}}\n' % i
                             for i in range(count))
            command = self.command(lines, "-n", "1", "-q", *GREEDY, "--overwrite")
            env = environment()
            # AddressSanitizer keeps what was freed; that is not the program's memory.
            env["ASAN_OPTIONS"] = ":".join(filter(None, [env.get("ASAN_OPTIONS"), "quarantine_size_mb=1", "thread_local_quarantine_size_kb=64"]))
            process = subprocess.Popen([BINARY, *command], env=env, stdin=subprocess.DEVNULL)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            self.assertEqual(process.returncode, 0)
            self.assertEqual(len(self.content(self.out).splitlines()), count)
            return usage.ru_maxrss
        few, many = peak(2000), peak(40000)
        self.assertLess(many - few, 8 << 10, f"KiB: {few} and {many}")


class Files(BatchCase):
    LINES = [{"prompt": "a"}, {"prompt": "b"}]

    def test_an_output_is_never_overwritten_unasked(self):
        self.write(self.out, b"precious\n")
        self.fails(2, *self.command(self.LINES, "-n", "1"), says=(self.out, "9 B", "--resume", "--overwrite"))
        self.fails(2, *self.command(self.LINES, "-n", "1", "--resume"), says=("line 1", "no record", "--overwrite"))
        self.fails(4, "batch", "-m", self.path("nowhere"), "-i", self.input, "-o", self.out, "--overwrite", says="not a folder")
        self.assertEqual(self.content(self.out), b"precious\n")
        broken = checkpoint.write_checkpoint(self.path("broken"), architectures=["Foo"])
        self.fails(4, "batch", "-m", broken, "-i", self.input, "-o", self.out, "--overwrite", says="Foo")
        self.assertEqual(self.content(self.out), b"precious\n")
        _, records = self.batch(self.LINES, "-n", "1", "--overwrite", keep=True)
        self.assertEqual(len(records), 2)

    def test_output_that_is_the_input(self):
        self.write_lines(self.LINES)
        before = self.content(self.input)
        link, hard = self.path("link.jsonl"), self.path("hard.jsonl")
        os.symlink(self.input, link)
        os.link(self.input, hard)
        for name in (self.input, link, hard, os.path.join(self.folder, ".", "in.jsonl")):
            for flags in ((), ("--overwrite",), ("--resume",)):
                self.fails(2, "batch", "-m", self.model, "-i", self.input, "-o", name, *flags, says="the same file")
        self.fails(2, "batch", "-m", self.model, "-i", self.input, "-o", self.out, "--error-file", link, says="--error-file")
        self.fails(2, "batch", "-m", self.model, "-i", self.input, "-o", self.out, "--error-file", self.input, says="the same file")
        self.assertEqual(self.content(self.input), before)

    def test_usage(self):
        self.write_lines(self.LINES)
        common = ("batch", "-m", self.model)
        self.fails(2, *common, "-o", self.out, says="--input-file")
        self.fails(2, *common, "-i", self.input, says="--output-file")
        self.fails(2, *common, "-i", "-", "-o", self.out, says="twice")
        self.fails(2, *common, "-i", "/dev/stdin", "-o", self.out, says="twice", stdin=b"a\n")
        self.fails(2, *common, "-i", self.folder, "-o", self.out, says="no regular file")
        self.fails(1, *common, "-i", self.path("nothing"), "-o", self.out, says=("cannot read", "No such file"))
        self.fails(1, *common, "-i", self.input, "-o", self.path("no", "such", "out"), says=("cannot write", "No such file"))
        self.fails(2, *common, "-i", self.input, "-o", "-", "--resume", says="--resume")
        self.fails(2, *common, "-i", self.input, "-o", self.out, "--top-p", "3", says="--top-p")
        self.fails(2, *common, "-i", self.input, "-o", self.out, "--gpu-memory-utilization", "2", says="--gpu-memory-utilization 2")
        self.fails(2, "batch", "-m", self.bare, "-i", self.input, "-o", self.out, says="no tokenizer")
        self.assertFalse(os.path.exists(self.out), "nothing is left behind")

    def test_empty_input(self):
        done, records = self.batch(b"\n\n")
        self.assertEqual(records, [])
        self.assertIn("batch: 0 ok, 0 failed", done.stderr.decode())

    def test_standard_output(self):
        self.write_lines(self.LINES)
        done = self.ok("batch", "-m", self.model, "-i", self.input, "-o", "-", "-n", "2", *GREEDY)
        self.assertEqual([self.texts(json.loads(line)) for line in done.stdout.splitlines()], [["bc"], ["cd"]])

    def test_reader_that_goes_away(self):
        self.write_lines([{"prompt": "a"}] * 3000)
        piped = subprocess.run(f'{BINARY} batch -m {self.model} -i {self.input} -o - -n 3 -q | head -1; exit "${{PIPESTATUS[0]}}"', shell=True,
                               executable="/bin/bash", capture_output=True, env=environment(), timeout=TIMEOUT, check=False)
        self.assertEqual((piped.returncode, piped.stderr, piped.stdout.count(b"\n")), (0, b"", 1))

    def test_closed_descriptors_and_full_disks(self):
        command = self.command(self.LINES, "-n", "1")
        for fds in ((0,), (2,), (0, 2)):
            done = self.call(*command, "--overwrite", stdin=None, preexec_fn=lambda fds=fds: [os.close(fd) for fd in fds])
            self.assertEqual((done.returncode, len(self.read(self.out))), (0, 2), fds)
        self.fails(1, "batch", "-m", self.model, "-i", self.input, "-o", "/dev/full", "-n", "1", says=("/dev/full", "No space left"))
        with open("/dev/full", "wb") as full:
            self.fails(1, "batch", "-m", self.model, "-i", self.input, "-o", "-", "-n", "1", says=("standard output", "No space left"), stdout=full)

    def test_disk_that_fills_up_can_be_gone_on_from(self):
        lines = [{"prompt": "a"}] * 100
        whole = masked(self.batch(lines, "-n", "3", "-s", "1")[1])
        os.remove(self.out)
        limit = 20000
        full = self.call(*self.command(lines, "-n", "3", "-s", "1"), preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
        self.assertEqual(full.returncode, 1, full.stderr)
        self.assertRegex(full.stderr.decode(), r"[0-9]+ of 100 lines are done\. The same command with --resume goes on")
        self.assertEqual(len(self.content(self.out)), limit)
        done, records = self.batch(lines, "-n", "3", "-s", "1", "--resume", keep=True)
        self.assertEqual(masked(records), whole)
        self.assertRegex(done.stderr.decode(), r"[0-9]+ bytes of a record that was not written to its end are dropped")


if __name__ == "__main__":
    main()
