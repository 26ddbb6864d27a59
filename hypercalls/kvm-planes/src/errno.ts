/** Error numbers that the calls of this interface return. @spec Linux include/uapi/asm-generic/errno-base.h, errno.h */
export const Errno = {
  EPERM: 1, ENOENT: 2, EINTR: 4, EIO: 5, ENXIO: 6, E2BIG: 7, EBADF: 9, EAGAIN: 11, ENOMEM: 12, EFAULT: 14, EBUSY: 16, EEXIST: 17, ENODEV: 19, EINVAL: 22, ENFILE: 23,
  EMFILE: 24, ENOTTY: 25, ENOSPC: 28, EOPNOTSUPP: 95,
} as const;
/** The name of an error number. */
export type Errno = keyof typeof Errno;
