"""Writes what a playbook did as JSON lines, so that Ingot need not read text that is meant for people."""

import json
import os

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
    name: ingot_result
    type: aggregate
    short_description: results for Ingot
    description: Appends one JSON object a line to events.jsonl in the directory of the run.
    requirements:
      - enabled through ANSIBLE_CALLBACKS_ENABLED
"""

LIMIT = 4096
COUNTS = ("ok", "changed", "failures", "unreachable", "skipped", "rescued", "ignored")


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "ingot_result"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.path = os.path.join(os.environ["INGOT_HANDOFF_RUN"], "events.jsonl")

    def v2_playbook_on_task_start(self, task, is_conditional):
        self.write(event="task", task=task.get_name())

    def v2_playbook_on_handler_task_start(self, task):
        self.write(event="task", task=task.get_name())

    def v2_runner_on_failed(self, result, ignore_errors=False):
        if not ignore_errors:
            self.write_end("failed", result)

    def v2_runner_on_unreachable(self, result):
        self.write_end("unreachable", result)

    def v2_playbook_on_stats(self, stats):
        hosts = {}
        for host in stats.processed:
            summary = stats.summarize(host)
            hosts[host] = {name: summary.get(name, 0) for name in COUNTS}
        self.write(event="stats", hosts=hosts)

    def write_end(self, event, result):
        # What arrives here went through Ansible's own censoring of `no_log` tasks.
        held = result._result
        items = [item for item in held.get("results", []) if isinstance(item, dict) and item.get("failed")]
        texts = [held.get("msg")] + [item.get("msg") for item in items[:3]]
        texts += [held.get("stderr") or held.get("module_stderr")]
        message = ": ".join(str(text).strip() for text in texts if text)
        self.write(event=event, host=result._host.get_name(), task=result._task.get_name(), message=message[:LIMIT])

    def write(self, **event):
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(event, default=str) + "\n")
