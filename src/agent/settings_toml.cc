// agent.toml to struct settings: the only file of the agent that knows TOML. Unknown keys and wrong types are errors.
#include "toml/hardened.hh"

#include "config/config.h"
extern "C" {
#include "loader/reach.h"
}
#include "settings.h"

#include <cstdio>
#include <cstdlib>
#include <string>

namespace {

enum : size_t { settings_max = 1 << 20 };

struct Reader {
    struct settings *s;
    char *error;
    size_t error_size;

    bool fail(const toml::node &at, const std::string &what) {
        std::snprintf(error, error_size, "line %u: %s", static_cast<unsigned>(at.source().begin.line), what.c_str());
        return false;
    }

    bool number(const toml::node &node, const char *key, int64_t least, int64_t most, uint32_t &out) {
        auto i = node.as_integer();
        if (!i || i->get() < least || i->get() > most)
            return fail(node, std::string(key) + ": expected a number from " + std::to_string(least) + " to " +
                                  std::to_string(most));
        out = static_cast<uint32_t>(i->get());
        return true;
    }

    bool bytes(const toml::node &node, const char *key, uint64_t &out) {
        auto text = node.as_string();
        uint64_t n = 0;
        bool fine = text && config_parse_quantity(text->get().data(), text->get().size(), CONFIG_BYTES, &n) && n;
        if (auto i = node.as_integer(); i && i->get() > 0) fine = true, n = static_cast<uint64_t>(i->get());
        if (!fine) return fail(node, std::string(key) + ": expected a size such as \"4 GiB\"");
        out = n;
        return true;
    }

    bool digest(const toml::node &node, uint8_t (&out)[TOKEN_DIGEST]) {
        auto text = node.as_string();
        std::string hex = text ? text->get() : "";
        if (hex.size() != 2 * TOKEN_DIGEST || hex.find_first_not_of("0123456789abcdefABCDEF") != std::string::npos)
            return fail(node, "token-sha256: expected 64 hexadecimal digits");
        for (size_t i = 0; i < TOKEN_DIGEST; i++)
            out[i] = static_cast<uint8_t>(std::stoul(hex.substr(2 * i, 2), nullptr, 16));
        return true;
    }

    // Copies a short text into a fixed place.
    template <size_t N> bool word(const toml::node &node, const std::string &key, char (&out)[N]) {
        auto text = node.as_string();
        if (!text || text->get().empty() || text->get().size() >= N)
            return fail(node, key + ": expected text of 1 to " + std::to_string(N - 1) + " bytes");
        std::memcpy(out, text->get().c_str(), text->get().size() + 1);
        return true;
    }

    template <size_t M, size_t N> bool words(const toml::node &node, const char *key, char (&out)[M][N], uint32_t &n) {
        auto list = node.as_array();
        if (!list || list->empty() || list->size() > M)
            return fail(node, std::string(key) + ": expected a list of 1 to " + std::to_string(M) + " texts");
        n = 0;
        for (auto &&item : *list)
            if (!word(item, key, out[n++])) return false;
        return true;
    }

    bool tenant_key(struct tenant &t, std::string_view key, const toml::node &node, bool &token) {
        if (key == "name") {
            if (!word(node, "name", t.name)) return false;
            return tenant_name_fine(t.name, std::strlen(t.name)) ||
                   fail(node, "name: expected letters, digits, '-', '_' or '.'");
        }
        if (key == "token-sha256") return token = true, digest(node, t.token);
        if (key == "keeps") return number(node, "keeps", 1, 1000000, t.keeps);
        if (key == "memory") return bytes(node, "memory", t.memory);
        if (key == "keep-memory") return bytes(node, "keep-memory", t.keep_memory);
        if (key == "cpu") return number(node, "cpu", 1, 1000000, t.cpu);
        struct reach reach;
        if (key == "listen")
            return word(node, "listen", t.listen) &&
                   (reach_parse_listen(t.listen, &reach) ||
                    fail(node, "listen: expected ports such as \"20000-20999\", or \"none\""));
        if (key == "connect")
            return word(node, "connect", t.connect) &&
                   (reach_parse_connect(t.connect, &reach) || fail(node, "connect: expected any, public or none"));
        return fail(node, "unknown key \"" + std::string(key) + "\" in [[tenants]]");
    }

    bool tenant(const toml::node &node) {
        auto table = node.as_table();
        if (!table) return fail(node, "tenants: expected [[tenants]] tables");
        struct tenant t;
        bool token = false;
        tenant_defaults(&t, "");
        for (auto &&[k, value] : *table)
            if (!tenant_key(t, k.str(), value, token)) return false;
        if (!*t.name) return fail(node, "[[tenants]]: expected a name");
        if (!token) return fail(node, "[[tenants]]: expected token-sha256; `donjon agent --new-token` makes one");
        for (uint32_t i = 0; i < s->n_tenants; i++) {
            if (!std::strcmp(s->tenants[i].name, t.name)) return fail(node, "two tenants have the same name");
            if (!std::memcmp(s->tenants[i].token, t.token, sizeof t.token))
                return fail(node, "two tenants have the same token");
        }
        auto grown = static_cast<struct tenant *>(std::realloc(s->tenants, (s->n_tenants + 1) * sizeof t));
        if (!grown) return fail(node, "out of memory");
        s->tenants = grown;
        s->tenants[s->n_tenants++] = t;
        return true;
    }

    bool top(std::string_view key, const toml::node &node) {
        if (key == "listen") return words(node, "listen", s->listen, s->n_listen);
        if (key == "connections") return number(node, "connections", 8, 100000, s->connections);
        if (key == "backends") return words(node, "backends", s->backends, s->n_backends);
        if (key == "stewards") return words(node, "stewards", s->stewards, s->n_stewards);
        if (key != "tenants") return fail(node, "unknown key \"" + std::string(key) + "\"");
        auto list = node.as_array();
        if (!list || list->size() > TENANTS_MAX) return fail(node, "tenants: expected at most 1024 [[tenants]] tables");
        for (auto &&item : *list)
            if (!tenant(item)) return false;
        return true;
    }

    bool refuse(const char *what) {
        std::snprintf(error, error_size, "%s", what);
        return false;
    }

    bool read(std::string_view text) {
        if (text.size() > settings_max) return refuse("expected at most 1 MiB of TOML");
        if (toml_hardened::forbidden(text) != std::string_view::npos)
            return refuse("a control character, which TOML does not allow");
        if (toml_hardened::key_scan{text}.too_deep() != std::string_view::npos)
            return refuse("a key of too many parts");
        toml::parse_result parsed = toml::parse(text);
        if (!parsed) {
            auto &e = parsed.error();
            std::snprintf(error, error_size, "line %u: %.*s", static_cast<unsigned>(e.source().begin.line),
                          static_cast<int>(e.description().size()), e.description().data());
            return false;
        }
        for (auto &&[k, node] : parsed.table())
            if (!top(k.str(), node)) return false;
        return true;
    }
};

} // namespace

extern "C" bool settings_read(struct settings *s, const char *toml, size_t size, char *error, size_t error_size) {
    Reader r{s, error, error_size};
    try {
        return r.read({toml, size});
    } catch (const toml_assertion &) {
        return r.refuse("not TOML");
    } catch (const std::exception &) {
        return r.refuse("out of memory");
    }
}
