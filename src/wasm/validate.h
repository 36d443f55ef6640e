/* Validation of function bodies and constant expressions (core specification, section 3.4 and appendix "Validation
 * Algorithm"): one pass over the bytes, nothing produced. One validator serves a module; its memory is reused from body
 * to body and does not grow with the module. */
#ifndef DONJON_WASM_VALIDATE_H
#define DONJON_WASM_VALIDATE_H

#include "reader.h"

struct validator;

struct validator *validator_new(struct module *m); /* NULL: out of memory */
void validator_delete(struct validator *v);

/* A function that occurs outside of bodies, so that ref.func in bodies may name it. Once all functions are declared. */
bool validator_declare_ref(struct validator *v, struct reader *r, uint32_t func);

/* What the data count section says. Without it, bodies may not name data segments. */
void validator_data_count(struct validator *v, uint32_t n);

/* The constant expression at r->p, which moves past its `end`. */
bool validate_constexpr(struct validator *v, struct reader *r, valtype expected, struct constexpr_ *out);

/* The body that fills r from p to end, of the function r->func. */
bool validate_body(struct validator *v, struct reader *r);

#endif
