# What a wheel with static libraries has beside its modules: their versions, licences and bill of materials.
# The stamp is the last thing that wheels/dependencies.py writes; without it the prefix is half-built.
set(stamp "${PARPULL_STATIC_DEPS}/parpull-deps.json")
if(NOT EXISTS "${stamp}")
  message(FATAL_ERROR "PARPULL_STATIC_DEPS=${PARPULL_STATIC_DEPS} holds no complete build of the bundled libraries. "
                      "Make it with: python -m wheels.dependencies ${PARPULL_STATIC_DEPS}")
endif()
file(READ "${stamp}" built)
foreach(key processor curl openssl)
  string(REGEX MATCH "\"${key}\": \"([^\"]+)\"" _ "${built}")
  set(BUNDLED_${key} "${CMAKE_MATCH_1}")
endforeach()
if(NOT BUNDLED_processor STREQUAL CMAKE_SYSTEM_PROCESSOR)
  message(FATAL_ERROR "PARPULL_STATIC_DEPS=${PARPULL_STATIC_DEPS} is for ${BUNDLED_processor}, "
                      "this build for ${CMAKE_SYSTEM_PROCESSOR}.")
endif()
file(WRITE "${CMAKE_CURRENT_BINARY_DIR}/_bundled.py"
  "\"\"\"What this wheel has built in; other builds lack this file. Written by CMake.\"\"\"\n\n"
  "__all__ = [\"BUNDLED\"]\n\n"
  "BUNDLED = \"curl ${BUNDLED_curl}, OpenSSL ${BUNDLED_openssl}\"\n")
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/_bundled.py" DESTINATION parpull COMPONENT python)
foreach(about licenses sboms)
  install(DIRECTORY "${PARPULL_STATIC_DEPS}/share/parpull/${about}" DESTINATION "${SKBUILD_METADATA_DIR}"
    COMPONENT python)
endforeach()
