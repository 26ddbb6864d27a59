import type { JsonRecord, Trace } from '@vmplanes/trace';
import { dirname, join, relative, resolve, sep } from 'node:path';

/** What a trace says of where its guest configuration lies: a path relative to the trace, so that both can be moved together. */
export const traceNotes = (guestFile: string, traceFile: string): JsonRecord => ({ file: relative(dirname(resolve(traceFile)), resolve(guestFile)).split(sep).join('/') });

/** The file that relative paths of the guest of a trace start from. */
export const originOf = (trace: Trace, traceFile: string): string => {
  const { file } = trace.header.guest;
  return typeof file === 'string' ? join(dirname(resolve(traceFile)), file) : resolve(traceFile);
};
