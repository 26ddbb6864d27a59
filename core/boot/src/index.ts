export { type Firmware, FirmwareGuid, type FirmwareSection, type HashedParts, kernelHashTable, loadFirmware, readFirmware, SectionType } from './firmware.ts';
export type { IgvmFile, IgvmHeader, IgvmHeaderName } from './igvm/file.ts';
export { IgvmPlatform } from './igvm/layouts.ts';
export * as igvmLayouts from './igvm/layouts.ts';
export { choosePlatform, type IgvmHost, type IgvmMemoryRange, loadIgvm } from './igvm/load.ts';
export { readIgvm } from './igvm/read.ts';
export { type IgvmHeaderInput, type IgvmInput, sealIgvm, writeIgvm } from './igvm/write.ts';
export { madt } from './madt.ts';
