// The only file of the Verifier that knows TOML: walks the tables of a policy and hands every value to the field table
// in policy.c as text. Unknown keys, wrong types and wrong sizes are errors with their line.
#include "toml/hardened.hh"

#include <cstdio>
#include <string>
#include <vector>

#include <donjon/attest.h>

#include "config/nearest.h"

// policy.c's, for this file alone.
extern "C" void attest_policy_reset(struct attest_policy *, const char *key);
extern "C" const char *attest_policy_key(size_t n);

namespace {

struct Reader {
    struct attest_policy *policy;
    char *error;
    size_t error_size;
};

bool fail(Reader &r, const toml::node &at, const std::string &what) {
    std::snprintf(r.error, r.error_size, "line %u: %s", static_cast<unsigned>(at.source().begin.line), what.c_str());
    return false;
}

// For a key that no policy has: what was meant, perhaps.
std::string meant(const std::string &key) {
    std::vector<const char *> keys;
    for (size_t n = 0; const char *known = attest_policy_key(n); n++)
        keys.push_back(known);
    const char *near = nearest_word(key.data(), key.size(), keys.data(), keys.size());
    return near ? std::string("; did you mean \"") + near + "\"?" : "; docs/attestation.md has them all";
}

bool set_text(Reader &r, const std::string &key, const toml::node &at, const std::string &text) {
    char what[256] = "";
    if (attest_policy_set(r.policy, key.c_str(), text.c_str(), text.size(), what, sizeof what)) return true;
    bool unknown = what == key.substr(0, sizeof what) + ": unknown key";
    return fail(r, at, unknown ? what + meant(key) : what);
}

bool set_value(Reader &r, const std::string &key, const toml::node &node) {
    if (auto s = node.as_string()) return set_text(r, key, node, s->get());
    if (auto b = node.as_boolean()) return set_text(r, key, node, b->get() ? "true" : "false");
    if (auto i = node.as_integer()) {
        if (i->get() < 0) return fail(r, node, key + ": expected a number that is not negative");
        return set_text(r, key, node, std::to_string(i->get()));
    }
    return fail(r, node, key + ": expected text, a number, true or false, or a list of them");
}

bool walk(Reader &r, const toml::table &table, const std::string &prefix) {
    for (auto &&[k, node] : table) {
        std::string key = prefix + std::string(k.str());
        if (auto sub = node.as_table()) {
            if (!walk(r, *sub, key + ".")) return false;
        } else if (auto list = node.as_array()) {
            attest_policy_reset(r.policy, key.c_str());
            if (list->empty())
                return fail(r, node,
                            key + ": an empty list would allow nothing or everything; leave the key out instead");
            for (auto &&item : *list)
                if (!set_value(r, key, item)) return false;
        } else {
            attest_policy_reset(r.policy, key.c_str());
            if (!set_value(r, key, node)) return false;
        }
    }
    return true;
}

} // namespace

extern "C" bool attest_policy_read(struct attest_policy *policy, const char *text, size_t size, char *error,
                                   size_t error_size) {
    attest_policy_strict(policy);
    Reader r{policy, error, error_size};
    if (toml_hardened::read({text, size}, error, error_size, [&](const toml::table &t) { return walk(r, t, ""); }))
        return true;
    attest_policy_free(policy);
    return false;
}
