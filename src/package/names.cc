// The files that a configuration names, read from its text: what a package has to carry, and may not reach beyond. The
// keys are config_toml.cc's; a key that names files there must be known here.
#include "toml/hardened.hh"

#include <cstdio>
#include <string>

#include "internal.h"

namespace {

struct Walk {
    bool (*each)(void *, const char *, bool);
    void *context;
    char *error;

    bool name(const toml::node &node, bool directory) {
        auto text = node.as_string();
        if (!text) return true; // a wrong type is the configuration reader's to report
        if (text->get().find('\0') != std::string::npos) return package_fail(error, "a file's name with a NUL in it");
        return each(context, text->get().c_str(), directory);
    }

    bool names(const toml::node &node) {
        auto list = node.as_array();
        if (!list) return name(node, false);
        for (auto &&item : *list)
            if (!name(item, false)) return false;
        return true;
    }

    bool table(const toml::table &t, bool mounts) {
        for (auto &&[k, node] : t) {
            bool files = k.str() == "trust" || k.str() == "peer-policy" || k.str() == "peer-development-root" ||
                         k.str() == "steward-ca";
            if (files && !names(node)) return false;
            if (mounts && k.str() == "host" && !name(node, true)) return false;
            if (auto sub = node.as_table(); sub && !table(*sub, k.str() == "mounts")) return false;
            if (auto list = node.as_array())
                for (auto &&item : *list)
                    if (auto sub = item.as_table(); sub && !table(*sub, k.str() == "mounts")) return false;
        }
        return true;
    }
};

} // namespace

extern "C" bool config_names(const char *text, size_t size, bool (*each)(void *, const char *, bool), void *context,
                             char *error) {
    Walk w{each, context, error};
    char why[200] = "";
    bool ok =
        toml_hardened::read({text, size}, why, sizeof why, [&](const toml::table &t) { return w.table(t, false); });
    if (*why) package_fail(error, "the configuration: %s", why); /* `each` has said its own */
    return ok;
}
