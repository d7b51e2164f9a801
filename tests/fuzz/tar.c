/* libFuzzer over the blocks of a tar, as C: `make fuzz`. As judge.c does with the judge, it includes
 * the text that Cython made of src/_tar.pyx. The input is a header, then records, a time and
 * extents, each from the same bytes; copies of the exact size let ASan see what reads behind. */
#include GENERATED

#define T(name) __pyx_f_7parpull_4_tar_##name
#define MUST(truth) do { if (!(truth)) { fprintf(stderr, "broken: %s\n", #truth); abort(); } } while (0)

static char *copy_of(const uint8_t *data, size_t size, size_t wanted) {
  char *copy = calloc(1, wanted ? wanted : 1);
  memcpy(copy, data, size < wanted ? size : wanted);
  return copy;
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
  __pyx_v_7parpull_4_tar_MOST = INT64_MAX; /* what importing the module would have done */
  return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct __pyx_t_7parpull_4_tar_Head head;
  struct __pyx_t_7parpull_4_tar_Record record;
  char *block = copy_of(data, size, 512), *text = copy_of(data, size, size);
  int64_t extents[42], number = -1, seconds = 0;
  long nanos = -1;
  size_t at = 0, length, i;
  unsigned sum = 0;
  int flaw, n;

  memset(&head, 0xAA, sizeof head);
  T(tar_head)(block, &head);
  /* Once more with a right sum, or little would ever be reached. */
  memset(block + 148, ' ', 8);
  for (i = 0; i < 512; i++) sum += (unsigned char)block[i];
  snprintf(block + 148, 8, "%06o", sum);
  memset(&head, 0xAA, sizeof head);
  flaw = T(tar_head)(block, &head);
  MUST(flaw == 0 || (flaw >= 2 && flaw <= 4));
  if (flaw == 0) {
    MUST(memchr(head.name, 0, sizeof head.name) && memchr(head.link, 0, sizeof head.link));
    MUST(head.size >= 0 && head.real >= 0 && head.kind == block[156]);
  }
  n = T(tar_extents)(block, 0, 21, extents);
  MUST(n >= -1 && n <= 21);
  n = T(tar_extents)(block, 386, 4, extents);
  MUST(n >= -1 && n <= 4);
  T(tar_blank)(block);

  while (at < size && (length = T(tar_record)(text + at, size - at, &record)) != 0) {
    MUST(length <= size - at && text[at + length - 1] == '\n');
    MUST(record.key > text + at && record.key_size > 0 && record.key[record.key_size] == '=');
    MUST(record.value == record.key + record.key_size + 1);
    MUST(record.value + record.value_size + 1 == text + at + length);
    if (T(tar_decimal)(record.value, record.value_size, &number)) MUST(number >= 0);
    at += length;
  }
  if (T(tar_decimal)(text, size, &number)) MUST(number >= 0 && size <= 19);
  if (T(tar_time)(text, size, &seconds, &nanos)) MUST(nanos >= 0 && nanos < 1000000000);
  if (size >= 12) {
    char *field = copy_of(data, size, 12);
    if (T(tar_number)(field, 12, &number) && !(field[0] & 0x80)) MUST(number >= 0);
    free(field);
  }
  free(block);
  free(text);
  return 0;
}
