import { bytes, struct, u8 } from '@vmplanes/binary';

/** Security versions of the platform's parts, on family 19h. @spec SNP ABI, TCB_VERSION */
export const TcbVersion = struct('TcbVersion', 'SNP ABI, TCB_VERSION (Milan, Genoa)', 8, {
  bootLoader: [0, u8],
  tee: [1, u8],
  reserved2: [2, bytes(4)],
  snp: [6, u8],
  microcode: [7, u8],
});

/** The same on family 1Ah and later. @spec SNP ABI, TCB_VERSION (Turin) */
export const TcbVersionTurin = struct('TcbVersionTurin', 'SNP ABI, TCB_VERSION (Turin)', 8, {
  fmc: [0, u8],
  bootLoader: [1, u8],
  tee: [2, u8],
  snp: [3, u8],
  reserved4: [4, bytes(3)],
  microcode: [7, u8],
});

/** First family whose TCB has the later form. */
export const TURIN_FAMILY = 0x1a;
