#include "opcodes.h"

const struct opcode_info opcode_table[OPCODE_LIMIT] = {
#define X(name, text, prefix, code, imm, aux, sig) [OP_##name] = {text, SIG_##sig, IMM_##imm, aux},
    OPCODES(X)
#undef X
};
