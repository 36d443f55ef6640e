#!/bin/bash
. "$(dirname "$0")/lib.sh"
need_keep; need openssl openssl
attack "a keep in a virtual machine is asked for; the host builds an ordinary process and calls it kvm"
make_app; start_agent; start_evil downgrade
refused "a keep of backend kvm was asked for" deploy "$evil" --backend kvm
nothing_lost
attack "the tenant wants hardware protection; the host has none"
refused "no hardware keeps the host out" "$donjon" deploy --host "$host" --secret "key=$tmp/secret" "$tmp/app"
nothing_lost
