// The only file of the steward that knows TOML: walks the tables and hands every value to settings.c as text.
#include "toml/hardened.hh"

#include <cstdio>
#include <string>

#include "settings.h"

namespace {

struct Reader {
    steward_settings *settings;
    char *error;
};

bool fail(Reader &r, const toml::node &at, const std::string &what) {
    std::snprintf(r.error, SETTINGS_ERROR, "line %u: %s", static_cast<unsigned>(at.source().begin.line), what.c_str());
    return false;
}

bool set_value(Reader &r, const std::string &key, const toml::node &node) {
    char what[SETTINGS_ERROR] = "";
    std::string text;
    if (auto s = node.as_string())
        text = s->get();
    else if (auto i = node.as_integer())
        text = std::to_string(i->get());
    else
        return fail(r, node, key + ": expected text or a number, or a list of them");
    if (text.find('\0') != std::string::npos) return fail(r, node, key + ": a NUL in the text");
    return steward_settings_set(r.settings, key.c_str(), text.c_str(), what) || fail(r, node, what);
}

bool walk(Reader &r, const toml::table &table, const std::string &prefix) {
    char what[SETTINGS_ERROR] = "";
    for (auto &&[k, node] : table) {
        std::string key = prefix + std::string(k.str());
        if (auto sub = node.as_table()) {
            if (!steward_settings_table(r.settings, key.c_str(), what)) return fail(r, node, what);
            if (!walk(r, *sub, key + ".")) return false;
        } else if (auto list = node.as_array()) {
            for (auto &&item : *list) {
                auto sub = item.as_table();
                if (!sub && !set_value(r, key, item)) return false;
                if (!sub) continue;
                if (!steward_settings_table(r.settings, key.c_str(), what)) return fail(r, item, what);
                if (!walk(r, *sub, key + ".")) return false;
            }
        } else if (!set_value(r, key, node))
            return false;
    }
    return true;
}

} // namespace

extern "C" bool steward_toml_walk(steward_settings *settings, const char *text, size_t size, char *error) {
    Reader r{settings, error};
    return toml_hardened::read({text, size}, error, SETTINGS_ERROR,
                               [&](const toml::table &t) { return walk(r, t, ""); });
}
