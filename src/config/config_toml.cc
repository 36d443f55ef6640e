// The configuration's TOML. Parses without exceptions; whatever the library may still throw (memory) stops here.
#include "toml/hardened.hh"

#include "config_toml.h"
#include "nearest.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

namespace {

using std::string;
using std::string_view;
using toml_hardened::forbidden;
using toml_hardened::key_depth_max;
using toml_hardened::key_scan;
using words = std::vector<const char *>;

// Text from the file as it may be shown on a terminal: no control characters, not too long.
string printable(string_view s, size_t most = 60) {
    string out;
    for (char ch : s.substr(0, most))
        out += (unsigned char)ch < 0x20 || ch == 0x7f ? '?' : ch;
    if (s.size() > most) out += "...";
    return out;
}

string quoted(string_view s) {
    return '"' + printable(s) + '"';
}

// A node as an error shows it: "an integer, 5".
string found(const toml::node &n) {
    if (auto s = n.as_string()) return "the string " + quoted(s->get());
    if (auto i = n.as_integer()) return "the integer " + std::to_string(i->get());
    if (auto b = n.as_boolean()) return b->get() ? "the boolean true" : "the boolean false";
    if (n.is_floating_point()) return "a floating-point number";
    if (n.is_array()) return "an array";
    if (n.is_table()) return "a table";
    return "a date or time";
}

string joined(const words &list, const char *last = " or ") {
    string out;
    for (size_t i = 0; i < list.size(); i++)
        out += (i ? i + 1 == list.size() ? last : ", " : "") + string(list[i]);
    return out;
}

struct reader {
    struct config *c;
    struct config_reports *reports;
    const char *dir;             // where names of files begin; NULL: there are none
    const config_source *source; // where they are instead; or NULL

    void report(config_severity severity, const toml::source_region &at, const string &message) {
        auto *r = reports;
        (severity == CONFIG_ERROR ? r->n_errors : severity == CONFIG_WARNING ? r->n_warnings : r->n_unsupported)++;
        if (r->n == CONFIG_TOML_REPORTS_MAX) return;
        config_report &out = r->report[r->n++];
        out.severity = severity;
        out.line = at.begin.line;
        out.column = at.begin.column;
        snprintf(out.message, sizeof out.message, "%s", message.c_str());
    }
    void error(const toml::source_region &at, const string &message) { report(CONFIG_ERROR, at, message); }
    void error(const toml::node &n, const string &message) { error(n.source(), message); }
    void expected(const toml::node &n, const string &path, const string &what) {
        error(n, path + ": expected " + what + ", found " + found(n));
    }
    // What a setter of config.c had to say, at the place of its value.
    void check(bool ok, const toml::node &n, const config_error &why) {
        if (!ok) error(n, why.message);
    }

    const toml::table *table(const toml::node &n, const string &path) {
        if (auto t = n.as_table()) return t;
        expected(n, path, "a table, [" + path + "]");
        return nullptr;
    }

    const string *text(const toml::node &n, const string &path) {
        if (auto s = n.as_string()) return &s->get();
        string hint = "a string";
        if (n.is_integer()) hint += " (write \"" + std::to_string(n.as_integer()->get()) + "\")";
        if (n.is_boolean()) hint += n.as_boolean()->get() ? " (write \"true\")" : " (write \"false\")";
        expected(n, path, hint);
        return nullptr;
    }

    void unknown_keys(const toml::table &t, const string &path, const words &valid) {
        for (auto &&[key, value] : t) {
            bool known = false;
            for (auto v : valid)
                known |= key.str() == v;
            if (known) continue;
            string name = path.empty() ? string(key.str()) : path + "." + string(key.str());
            const char *near = nearest_word(key.str().data(), key.str().size(), valid.data(), valid.size());
            error(key.source(), "unknown key " + quoted(name) + "; " +
                                    (near ? "did you mean \"" + string(near) + "\"?" : "expected " + joined(valid)));
        }
    }

    // One of `names`: its number, or -1 after an error.
    int choice(const toml::node &n, const string &path, const words &names) {
        auto s = n.as_string();
        for (size_t i = 0; s && i < names.size(); i++)
            if (s->get() == names[i]) return (int)i;
        string all;
        for (size_t i = 0; i < names.size(); i++)
            all += (i ? i + 1 == names.size() ? " or " : ", " : "") + quoted(names[i]);
        const char *near = s ? nearest_word(s->get().data(), s->get().size(), names.data(), names.size()) : nullptr;
        error(n, path + ": expected " + all + ", found " + found(n) +
                     (near ? "; did you mean " + quoted(near) + "?" : ""));
        return -1;
    }

    bool boolean(const toml::node &n, const string &path, bool *out) {
        auto b = n.as_boolean();
        if (!b)
            expected(n, path, "true or false");
        else
            *out = b->get();
        return b;
    }

    void args(const toml::node &n) {
        auto list = n.as_array();
        if (!list) return expected(n, "args", "an array of strings, [\"...\", \"...\"]");
        config_clear_args(c);
        size_t i = 0;
        for (auto &&item : *list) {
            config_error why;
            auto s = text(item, "args[" + std::to_string(i++) + "]");
            if (s) check(config_add_arg(c, s->data(), s->size(), &why), item, why);
        }
    }

    void env(const toml::node &n) {
        auto t = table(n, "env");
        if (!t) return;
        for (auto &&[key, value] : *t) {
            config_error why;
            auto k = key.str();
            auto s = text(value, "env." + printable(k));
            if (s) check(config_set_env(c, k.data(), k.size(), s->data(), s->size(), &why), value, why);
        }
    }

    void steward(const toml::node &n) {
        config_error why;
        auto s = text(n, "steward");
        if (s) check(config_set_steward(c, s->data(), s->size(), &why), n, why);
    }

    // prot and port of listen and connect. The defaults are Enarx's: tls, 443.
    void socket(const toml::table &t, const string &path, config_file &f) {
        f.port = 443;
        auto prot = t.get("prot");
        if (prot) {
            int p = choice(*prot, path + ".prot", {"tls", "tcp"});
            f.prot = p == 1 ? CONFIG_TCP : CONFIG_TLS;
            if (p < 0) return;
        }
        auto port = t.get("port");
        if (!port) return;
        auto i = port->as_integer();
        int64_t least = f.kind == CONFIG_LISTEN ? 0 : 1;
        if (!i || i->get() < least || i->get() > 65535)
            expected(*port, path + ".port", "a number from " + std::to_string(least) + " to 65535");
        else
            f.port = (uint16_t)i->get();
    }

    bool read_source(const toml::node &n, const string &path, const string &name, size_t most, string *out) {
        size_t size = 0;
        const char *why = "";
        const char *bytes = source->read(source->ctx, name.c_str(), &size, &why);
        if (bytes && size <= most) return out->assign(bytes, size), true;
        if (bytes) why = "it is too large";
        return error(n, path + ": cannot read " + printable(name, 200) + ": " + why), false;
    }

    // A file that the configuration names becomes part of it.
    bool read_named(const toml::node &n, const string &path, size_t most, string *out) {
        auto name = text(n, path);
        if (!name) return false;
        if (!dir && !source) return error(n, path + ": no file can be read here"), false;
        if (name->empty() || memchr(name->data(), 0, name->size()))
            return error(n, path + ": expected the name of a file, found " + found(n)), false;
        if (source) return read_source(n, path, *name, most, out);
        string full = (*name)[0] == '/' ? *name : string(dir) + "/" + *name;
        FILE *file = fopen(full.c_str(), "rbe");
        int reason = errno;
        char piece[4096];
        size_t got = 0;
        while (file && out->size() <= most && (got = fread(piece, 1, sizeof piece, file)) > 0)
            out->append(piece, got);
        bool ok = file && !ferror(file) && out->size() <= most;
        if (file) fclose(file);
        if (!file)
            error(n, path + ": cannot read " + printable(full, 200) + ": " + strerror(reason));
        else if (!ok)
            error(n, path + ": cannot read " + printable(full, 200) + ", or it has more than " + std::to_string(most) +
                         " bytes");
        return ok;
    }

    // The certificates of a PEM file, and nothing else of it: no comments, and never a key.
    bool certificates(const toml::node &n, const string &path, string *out) {
        static const string begin = "-----BEGIN CERTIFICATE-----", end = "-----END CERTIFICATE-----";
        string pem;
        if (!read_named(n, path, 4u << 20, &pem)) return false;
        // Whoever puts one there means it: left out, it would let in those it names.
        if (pem.find("-----BEGIN X509 CRL-----") != string::npos)
            return error(n, path + ": a revocation list in it, and a keep looks at none"), false;
        size_t before = out->size();
        for (size_t at = 0; (at = pem.find(begin, at)) != string::npos;) {
            size_t stop = pem.find(end, at);
            if (stop == string::npos || pem.find('\0', at) < stop)
                return error(n, path + ": a certificate in it has no end"), false;
            *out += pem.substr(at, stop + end.size() - at) + "\n";
            at = stop;
        }
        if (out->size() == before) return error(n, path + ": no certificate (PEM) in it"), false;
        return true;
    }

    void trust(const toml::node &n, const string &path, string *out) {
        auto list = n.as_array();
        if (!list || list->empty()) return expected(n, path, "an array of names of PEM files, [\"ca.pem\"]");
        size_t i = 0;
        for (auto &&item : *list)
            if (!certificates(item, path + "[" + std::to_string(i++) + "]", out)) return;
    }

    // An appraisal policy as lines "key=value": the keep has no TOML. What the keys mean is src/attest's business.
    bool flatten_value(const toml::node &at, const toml::node &v, const string &key, string *out) {
        string value;
        if (auto s = v.as_string())
            value = s->get();
        else if (auto b = v.as_boolean())
            value = b->get() ? "true" : "false";
        else if (auto i = v.as_integer())
            value = std::to_string(i->get());
        else
            return error(at, "peer-policy: " + printable(key) + ": expected text, a number, true or false"), false;
        if (value.find('\n') != string::npos || value.find('\0') != string::npos)
            return error(at, "peer-policy: " + printable(key) + ": expected one line of text"), false;
        *out += key + "=" + value + "\n";
        return true;
    }

    bool flatten(const toml::node &at, const toml::table &t, const string &prefix, string *out) {
        for (auto &&[k, node] : t) {
            string key = prefix + string(k.str());
            if (key.find_first_of(string("=\n\0", 3)) != string::npos)
                return error(at, "peer-policy: a key with '=' in it"), false;
            if (auto sub = node.as_table()) {
                if (!flatten(at, *sub, key + ".", out)) return false;
            } else if (auto list = node.as_array()) {
                for (auto &&item : *list)
                    if (!flatten_value(at, item, key, out)) return false;
            } else if (!flatten_value(at, node, key, out))
                return false;
        }
        return true;
    }

    void peer_policy(const toml::node &n, const string &path, string *out) {
        string policy;
        if (!read_named(n, path, 1u << 20, &policy)) return;
        if (forbidden(policy) != string_view::npos || key_scan{policy}.too_deep() != string_view::npos)
            return error(n, path + ": not a policy in TOML");
        toml::parse_result parsed = toml::parse(policy);
        if (!parsed)
            return error(n, path + ": line " + std::to_string(parsed.error().source().begin.line) + ": " +
                                printable(parsed.error().description(), 200));
        if (!flatten(n, parsed.table(), "", out)) return;
        if (out->empty()) *out = "name=strict\n"; // an empty policy is the strict one
    }

    // The root that evidence of keeps without a TEE ends in: one certificate, as a line of the policy.
    void development_root(const toml::node &n, const string &path, string *out) {
        string pem, base64;
        if (!certificates(n, path, &pem)) return;
        size_t begin = pem.find('\n'), end = pem.find("-----END");
        if (begin == string::npos || pem.find("-----BEGIN", begin) != string::npos)
            return error(n, path + ": expected one certificate");
        for (char ch : pem.substr(begin, end - begin))
            if (ch != '\n' && ch != '\r') base64 += ch;
        *out += "development-root=" + base64 + "\n";
    }

    struct tls_texts {
        string trust, peer_policy;
    };

    // What listen and connect with TLS have besides.
    void tls_keys(const toml::table &t, const string &path, config_file &f, tls_texts &texts) {
        if (auto n = t.get("client-auth")) {
            int k = choice(*n, path + ".client-auth", {"none", "require"});
            if (k > 0) f.client_auth = CONFIG_CLIENT_AUTH_REQUIRE;
        }
        if (auto n = t.get("trust")) trust(*n, path + ".trust", &texts.trust);
        if (auto n = t.get("peer-policy")) peer_policy(*n, path + ".peer-policy", &texts.peer_policy);
        if (auto n = t.get("peer-development-root")) {
            if (!t.get("peer-policy")) return error(*n, path + ".peer-development-root: without a peer-policy");
            development_root(*n, path + ".peer-development-root", &texts.peer_policy);
        }
        f.trust = texts.trust.c_str();
        f.peer_policy = texts.peer_policy.c_str();
        if (f.kind != CONFIG_CONNECT || f.prot != CONFIG_TLS || !texts.trust.empty() || !texts.peer_policy.empty())
            return;
        report(CONFIG_UNSUPPORTED, t.source(),
               path + ": a TLS connection needs `trust` (certificates of CAs; \"/etc/ssl/certs/ca-certificates.crt\" "
                      "holds the web's) or `peer-policy`: nothing is trusted by itself");
    }

    // A string that a file needs, or has as an option; nullptr after an error or without it.
    const string *file_text(const toml::table &t, const string &path, const char *key, bool needed) {
        auto n = t.get(key);
        if (n) return text(*n, path + "." + key);
        if (needed) error(t.source(), path + ": \"" + key + "\" is missing");
        return nullptr;
    }

    const words file_words = {"kind",
                              "name",
                              "addr",
                              "host",
                              "port",
                              "prot",
                              "client-auth",
                              "trust",
                              "server-name",
                              "peer-policy",
                              "peer-development-root"};

    // Keys of other kinds are not misspelt, so no nearest word for them.
    void file_keys(const toml::table &t, const string &path, config_file_kind kind, const words &valid) {
        words all = file_words;
        for (auto &&[key, value] : t) {
            auto same = [&k = key](const char *w) { return k.str() == w; };
            if (std::none_of(all.begin(), all.end(), same) || std::any_of(valid.begin(), valid.end(), same)) continue;
            error(key.source(), path + ": \"" + string(key.str()) + "\" does not belong to kind = " +
                                    quoted(config_kind_name(kind)) + ", whose keys are " + joined(valid, " and "));
        }
        unknown_keys(t, path, all);
    }

    void file(const toml::node &n, const string &path) {
        auto t = n.as_table();
        if (!t) return expected(n, path, "a table, [[files]]");
        auto kind = t->get("kind");
        if (!kind) {
            unknown_keys(*t, path, file_words);
            return error(t->source(),
                         path + ": \"kind\" is missing; expected null, stdin, stdout, stderr, listen or connect");
        }
        int k = choice(*kind, path + ".kind", {"null", "stdin", "stdout", "stderr", "listen", "connect"});
        if (k < 0) return;
        config_file f = {};
        f.kind = (config_file_kind)k;
        unsigned errors = reports->n_errors;
        if (k == CONFIG_LISTEN)
            file_keys(*t, path, f.kind,
                      {"kind", "name", "addr", "port", "prot", "client-auth", "trust", "peer-policy",
                       "peer-development-root"});
        else if (k == CONFIG_CONNECT)
            file_keys(*t, path, f.kind,
                      {"kind", "name", "host", "port", "prot", "server-name", "trust", "peer-policy",
                       "peer-development-root"});
        else
            file_keys(*t, path, f.kind, {"kind", "name"});

        auto name = file_text(*t, path, "name", k == CONFIG_LISTEN);
        auto addr = k == CONFIG_LISTEN ? file_text(*t, path, "addr", false) : nullptr;
        auto host = k == CONFIG_CONNECT ? file_text(*t, path, "host", true) : nullptr;
        auto server_name = k == CONFIG_CONNECT ? file_text(*t, path, "server-name", false) : nullptr;
        tls_texts texts;
        if (k == CONFIG_LISTEN || k == CONFIG_CONNECT) {
            socket(*t, path, f);
            tls_keys(*t, path, f, texts);
        }
        if (reports->n_errors != errors) return;

        for (auto s : {name, addr, host, server_name})
            if (s && memchr(s->data(), 0, s->size())) return error(*t, path + ": must not contain a NUL character");
        if (k == CONFIG_LISTEN) f.addr = addr ? addr->c_str() : "::";
        if (host) f.host = host->c_str();
        if (server_name) f.server_name = server_name->c_str();
        f.name = name ? name->c_str() : host ? f.host : config_kind_name(f.kind);
        config_error why;
        if (config_add_file(c, &f, &why)) return;
        auto at = t->get("name") ? t->get("name") : kind;
        error(*at, path + "." + why.message);
    }

    void files(const toml::node &n) {
        auto list = n.as_array();
        if (!list) return expected(n, "files", "an array of tables, [[files]]");
        config_clear_files(c);
        size_t i = 0;
        for (auto &&item : *list)
            file(item, "files[" + std::to_string(i++) + "]");
    }

    void mount(const toml::node &n, const string &path) {
        auto t = n.as_table();
        if (!t) return expected(n, path, "a table, [[mounts]]");
        unsigned errors = reports->n_errors;
        unknown_keys(*t, path, {"host", "guest", "writable"});
        auto host = file_text(*t, path, "host", true);
        auto guest = file_text(*t, path, "guest", true);
        config_mount m = {};
        if (auto w = t->get("writable")) boolean(*w, path + ".writable", &m.writable);
        if (reports->n_errors != errors) return;
        for (auto s : {host, guest})
            if (memchr(s->data(), 0, s->size())) return error(*t, path + ": must not contain a NUL character");
        if (host->empty()) return error(*t->get("host"), path + ".host: must not be empty");
        m.host = host->c_str();
        m.guest = guest->c_str();
        config_error why;
        uint32_t before = c->n_mounts;
        if (!config_add_mount(c, &m, &why))
            error(*t->get("guest"), path + ": " + why.message);
        else if (c->n_mounts == before)
            error(*t->get("guest"), path + ".guest: " + quoted(*guest) + " is mounted twice");
    }

    void mounts(const toml::node &n) {
        auto list = n.as_array();
        if (!list) return expected(n, "mounts", "an array of tables, [[mounts]]");
        size_t i = 0;
        for (auto &&item : *list)
            mount(item, "mounts[" + std::to_string(i++) + "]");
    }

    void secret(const toml::node &n, const string &path) {
        auto t = n.as_table();
        if (!t) return expected(n, path, "a table, [[secrets]]");
        unsigned errors = reports->n_errors;
        unknown_keys(*t, path, {"name", "env", "file"});
        auto name = file_text(*t, path, "name", true), env = file_text(*t, path, "env", false),
             file = file_text(*t, path, "file", false);
        if (reports->n_errors != errors) return;
        for (auto s : {name, env, file})
            if (s && memchr(s->data(), 0, s->size())) return error(*t, path + ": must not contain a NUL character");
        if (env && file) return error(*t, path + ": expected either env or file, found both");
        string usual = "/run/secrets/" + *name;
        config_secret s = {name->c_str(), env ? env->c_str() : nullptr,
                           file  ? file->c_str()
                           : env ? nullptr
                                 : usual.c_str()};
        config_error why;
        if (!config_add_secret(c, &s, &why)) error(*t, path + "." + why.message);
    }

    void secrets(const toml::node &n) {
        auto list = n.as_array();
        if (!list) return expected(n, "secrets", "an array of tables, [[secrets]]");
        size_t i = 0;
        for (auto &&item : *list)
            secret(item, "secrets[" + std::to_string(i++) + "]");
    }

    void limit(const toml::node &n, config_limit which) {
        const config_limit_info &l = config_limit_table[which];
        static const char *const what[] = {"a size such as \"64 MiB\"", "a number", "a time such as \"30s\""};
        string path = string("limits.") + l.key;
        uint64_t value = 0;
        bool ok = false;
        if (auto s = n.as_string()) ok = config_parse_quantity(s->get().data(), s->get().size(), l.unit, &value);
        if (auto i = n.as_integer()) {
            string digits = std::to_string(i->get());
            ok = config_parse_quantity(digits.data(), digits.size(), l.unit, &value);
        }
        if (!ok)
            return expected(n, path, string(what[l.unit]) + (l.most == CONFIG_UNLIMITED ? " or \"unlimited\"" : ""));
        config_error why;
        check(config_set_limit(c, which, value, &why), n, why);
    }

    void limits(const toml::node &n) {
        auto t = table(n, "limits");
        if (!t) return;
        words valid;
        for (auto &l : config_limit_table)
            valid.push_back(l.key);
        unknown_keys(*t, "limits", valid);
        for (int i = 0; i < CONFIG_LIMIT_COUNT; i++)
            if (auto v = t->get(config_limit_table[i].key)) limit(*v, (config_limit)i);
    }

    void wasm(const toml::node &n) {
        auto t = table(n, "wasm");
        if (!t) return;
        unknown_keys(*t, "wasm", {"unknown-imports-trap", "unknown-imports-default", "interpret", "explicit-checks"});
        if (auto v = t->get("unknown-imports-trap")) boolean(*v, "wasm.unknown-imports-trap", &c->unknown_imports_trap);
        if (auto v = t->get("unknown-imports-default")) {
            boolean(*v, "wasm.unknown-imports-default", &c->unknown_imports_default);
            if (c->unknown_imports_default && c->unknown_imports_trap)
                error(*v, "wasm.unknown-imports-default: not together with unknown-imports-trap");
        }
        if (auto v = t->get("interpret")) boolean(*v, "wasm.interpret", &c->interpret);
        if (auto v = t->get("explicit-checks")) boolean(*v, "wasm.explicit-checks", &c->explicit_checks);
    }

    void tls(const toml::node &n) {
        auto t = table(n, "tls");
        if (!t) return;
        config_error why;
        unknown_keys(*t, "tls", {"names", "lifetime", "steward-ca"});
        if (auto v = t->get("names")) {
            auto list = v->as_array();
            if (!list) return expected(*v, "tls.names", "an array of DNS names and addresses, [\"example.org\"]");
            size_t i = 0;
            for (auto &&item : *list) {
                auto s = text(item, "tls.names[" + std::to_string(i++) + "]");
                if (s) check(config_add_tls_name(c, s->data(), s->size(), &why), item, why);
            }
        }
        if (auto v = t->get("lifetime")) {
            uint64_t value = 0;
            auto s = v->as_string();
            if (!s || !config_parse_quantity(s->get().data(), s->get().size(), CONFIG_NANOSECONDS, &value))
                expected(*v, "tls.lifetime", "a time such as \"12h\"");
            else
                check(config_set_tls_lifetime(c, value, &why), *v, why);
        }
        string ca;
        if (auto v = t->get("steward-ca"))
            if (certificates(*v, "tls.steward-ca", &ca))
                check(config_set_steward_ca(c, ca.data(), ca.size(), &why), *v, why);
    }

    // The later Enarx.toml: [stdin], [stdout], [stderr] with kind = "null" or "host" in place of [[files]].
    void standard(const toml::table &root) {
        static const char *const names[] = {"stdin", "stdout", "stderr"};
        bool any = false;
        for (auto name : names)
            any |= root.contains(name);
        if (!any) return;
        if (auto f = root.get("files"))
            return error(*f, "files: cannot be together with [stdin], [stdout] and [stderr]");
        config_clear_files(c);
        for (int i = 0; i < 3; i++) {
            config_file f = {};
            f.kind = (config_file_kind)(CONFIG_STDIN + i);
            auto n = root.get(names[i]);
            auto t = n ? table(*n, names[i]) : nullptr;
            if (t) unknown_keys(*t, names[i], {"kind"});
            auto kind = t ? t->get("kind") : nullptr;
            if (kind && choice(*kind, string(names[i]) + ".kind", {"null", "host"}) == 0) f.kind = CONFIG_NULL;
            f.name = names[i];
            config_error why;
            if (!config_add_file(c, &f, &why)) error(root.source(), why.message);
        }
    }

    void network_policy(const toml::node &n, const string &path) {
        auto t = table(n, path);
        if (!t) return;
        for (auto &&[key, value] : *t) {
            string name = path + "." + printable(key.str());
            auto policy = table(value, name);
            if (!policy) continue;
            unknown_keys(*policy, name, {"prot"});
            if (auto p = policy->get("prot")) choice(*p, name + ".prot", {"tls", "tcp"});
        }
    }

    void network(const toml::node &n) {
        auto t = table(n, "network");
        if (!t) return;
        unknown_keys(*t, "network", {"incoming", "outgoing"});
        for (auto key : {"incoming", "outgoing"})
            if (auto v = t->get(key)) network_policy(*v, string("network.") + key);
        report(CONFIG_WARNING, n.source(),
               "network: a policy for sockets that a program opens by itself, which programs cannot do here; "
               "it has no effect. [[files]] with kind = \"listen\" or \"connect\" gives a program its sockets");
    }

    void root(const toml::table &t) {
        c->announce_fds = true;
        unknown_keys(t, "",
                     {"args", "env", "steward", "files", "mounts", "secrets", "limits", "wasm", "tls", "stdin",
                      "stdout", "stderr", "network"});
        if (auto n = t.get("args")) args(*n);
        if (auto n = t.get("env")) env(*n);
        if (auto n = t.get("steward")) steward(*n);
        if (auto n = t.get("files")) files(*n);
        standard(t);
        if (auto n = t.get("mounts")) mounts(*n);
        if (auto n = t.get("secrets")) secrets(*n);
        if (auto n = t.get("limits")) limits(*n);
        if (auto n = t.get("wasm")) wasm(*n);
        if (auto n = t.get("tls")) tls(*n);
        if (auto n = t.get("steward"); n && !c->steward_ca)
            report(CONFIG_WARNING, n->source(),
                   "steward: has no effect without tls.steward-ca, the CA that its certificates must be from");
        if (c->steward_ca && !c->steward) error(*t.get("tls"), "tls.steward-ca: there is no `steward` to be asked");
        if (auto n = t.get("network")) network(*n);
    }
};

toml::source_region place(string_view text, size_t offset) {
    toml::source_region where{};
    size_t line = text.substr(0, offset).rfind('\n');
    where.begin.line = 1 + (toml::source_index)std::count(text.begin(), text.begin() + (ptrdiff_t)offset, '\n');
    where.begin.column = (toml::source_index)(line == string_view::npos ? offset + 1 : offset - line);
    return where;
}

bool parse(struct config *c, string_view text, const char *dir, const config_source *source,
           struct config_reports *reports) {
    reader r{c, reports, dir, source};
    if (text.size() > CONFIG_TOML_BYTES_MAX) {
        r.error(toml::source_region{}, "expected at most " + std::to_string(CONFIG_TOML_BYTES_MAX >> 20) +
                                           " MiB of TOML, found " + std::to_string(text.size()) + " bytes");
        return false;
    }
    size_t control = forbidden(text);
    if (control != string_view::npos) {
        char code[8];
        snprintf(code, sizeof code, "0x%02x", (unsigned char)text[control]);
        r.error(place(text, control), string("a control character, ") + code + ", which TOML does not allow");
        return false;
    }
    size_t deep = key_scan{text}.too_deep();
    if (deep != string_view::npos) {
        r.error(place(text, deep), "a key of more than " + std::to_string(key_depth_max) + " parts");
        return false;
    }
    toml::parse_result parsed = toml::parse(text);
    if (!parsed) {
        r.error(parsed.error().source(), printable(parsed.error().description(), 400));
        return false;
    }
    r.root(parsed.table());
    return reports->n_errors == 0;
}

bool give_up(struct config_reports *reports, const char *why) {
    *reports = config_reports{};
    reports->n = reports->n_errors = 1;
    reports->report[0].severity = CONFIG_ERROR;
    snprintf(reports->report[0].message, sizeof reports->report[0].message, "%s", why);
    return false;
}

bool read_all(struct config *c, string_view text, const char *dir, const config_source *source,
              struct config_reports *reports) {
    *reports = config_reports{};
    try {
        return parse(c, text, dir, source, reports);
    } catch (const toml_assertion &) {
        return give_up(reports, "not understood by the TOML parser");
    } catch (...) { // std::bad_alloc, and nothing else as far as toml++ says
        return give_up(reports, "out of memory");
    }
}

} // namespace

bool config_parse_toml(struct config *c, const char *text, size_t len, struct config_reports *reports) {
    return read_all(c, {text, len}, nullptr, nullptr, reports);
}

bool config_parse_toml_in(struct config *c, const char *text, size_t len, const char *dir,
                          struct config_reports *reports) {
    return read_all(c, {text, len}, dir, nullptr, reports);
}

bool config_parse_toml_from(struct config *c, const char *text, size_t len, const struct config_source *source,
                            struct config_reports *reports) {
    return read_all(c, {text, len}, nullptr, source, reports);
}
