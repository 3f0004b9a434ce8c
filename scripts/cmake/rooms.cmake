# bolide_room(name folder [LINK public targets...] [PRIVATE private targets...] [EXCEPT files...])
# A room is a folder and one static library made of all its .cpp files. Includes are written from the source root of the room's
# parent: "core/error.h", "models/architecture.h".
add_library(bolide_flags INTERFACE)
target_include_directories(bolide_flags INTERFACE ${CMAKE_SOURCE_DIR}/src ${CMAKE_SOURCE_DIR})
target_compile_options(bolide_flags INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Wshadow;-Wno-missing-field-initializers>
  # Contraction would let the compiler fuse a*b+c differently per call site; kernels that want FMA say so.
  $<$<COMPILE_LANGUAGE:CXX>:-ffp-contract=off>)
if(BOLIDE_WERROR)
  target_compile_options(bolide_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Werror>)
endif()
if(BOLIDE_SANITIZE)
  target_compile_options(bolide_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-fsanitize=address,undefined;-fno-sanitize-recover=undefined;-fno-omit-frame-pointer>)
  target_link_options(bolide_flags INTERFACE -fsanitize=address,undefined)
endif()
if(BOLIDE_FUZZ)
  if(NOT CMAKE_CXX_COMPILER_ID MATCHES "Clang")
    message(FATAL_ERROR "BOLIDE_FUZZ=ON needs clang's libFuzzer: add -DCMAKE_CXX_COMPILER=clang++, or leave it OFF for the built-in driver")
  endif()
  target_compile_options(bolide_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-fsanitize=fuzzer-no-link>)
endif()

function(bolide_room name folder)
  cmake_parse_arguments(ROOM "" "" "LINK;PRIVATE;EXCEPT" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/${folder}/*.cpp)
  foreach(except IN LISTS ROOM_EXCEPT)
    list(REMOVE_ITEM sources ${CMAKE_SOURCE_DIR}/${folder}/${except})
  endforeach()
  if(NOT sources)  # a room of headers alone
    set(sources ${CMAKE_BINARY_DIR}/generated/empty_${name}.cpp)
    file(GENERATE OUTPUT ${sources} CONTENT "")
  endif()
  add_library(bolide_${name} STATIC ${sources})
  target_link_libraries(bolide_${name} PUBLIC bolide_flags ${ROOM_LINK} PRIVATE ${ROOM_PRIVATE})
endfunction()
