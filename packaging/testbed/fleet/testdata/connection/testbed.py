"""Lets Ansible reach hosts of the test-bed, which no network leads to."""

import subprocess

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.connection import ConnectionBase

DOCUMENTATION = """
    name: testbed
    short_description: Hosts of Shoal's test-bed
    description: Runs commands in a host of the test-bed by its own command.
    author: The Shoal Authors
    version_added: "1.0"
    options:
      program:
        description: The testbed command.
        env: [{name: SHOAL_TESTBED_PROGRAM}]
        required: true
      bed:
        description: The bed's name.
        env: [{name: SHOAL_TESTBED_BED}]
        required: true
      remote_addr:
        description: The host's name in the bed.
        vars: [{name: inventory_hostname}]
"""


class Connection(ConnectionBase):
    transport = "testbed"
    has_pipelining = True

    def _connect(self):
        self._connected = True
        return self

    def exec_command(self, cmd, in_data=None, sudoable=True):
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        ran = self._testbed("exec", self.get_option("remote_addr"), "--", "sh", "-c", cmd, input=in_data or b"")
        if ran.returncode == 1 and ran.stderr.startswith(b"testbed: "):
            raise AnsibleConnectionFailure(ran.stderr.decode())
        return ran.returncode, ran.stdout, ran.stderr

    def put_file(self, in_path, out_path):
        super().put_file(in_path, out_path)
        self._copy(in_path, f"{self.get_option('remote_addr')}:{out_path}")

    def fetch_file(self, in_path, out_path):
        super().fetch_file(in_path, out_path)
        self._copy(f"{self.get_option('remote_addr')}:{in_path}", out_path)

    def close(self):
        self._connected = False

    def _copy(self, source, target):
        ran = self._testbed("cp", source, target)
        if ran.returncode != 0:
            raise AnsibleError(f"copy {source} to {target}: {ran.stderr.decode()}")

    def _testbed(self, *args, **kwargs):
        command = [self.get_option("program"), "--bed", self.get_option("bed"), *args]
        return subprocess.run(command, capture_output=True, check=False, **kwargs)
