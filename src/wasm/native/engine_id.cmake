# Writes the engine's build id: SHA-256 over everything that compiled code depends on. Run with
# -DOUT=... -DCOMPILER=... -DROOT=... whenever a source changes.
file(GLOB_RECURSE sources ${ROOT}/src/wasm/*.c ${ROOT}/src/wasm/*.h ${ROOT}/include/*.h)
list(SORT sources)
set(all "${COMPILER}")
foreach(source ${sources})
  file(SHA256 ${source} hash)
  file(RELATIVE_PATH name ${ROOT} ${source})
  string(APPEND all "\n${name} ${hash}")
endforeach()
string(SHA256 id "${all}")
string(REGEX REPLACE "(..)" "0x\\1," bytes ${id})
file(WRITE ${OUT} "#include \"native/image.h\"\n\nconst uint8_t engine_build_id[IMAGE_ID] = {${bytes}};\n")
