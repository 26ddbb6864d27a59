export * from './fpu/index.ts';
export * from './state/layout.ts';
export * from './state/registers.ts';
export {
  Access, AddressModel, Denial, PageFault, type PageTableMemory, PagingMode, PdpteLoad, Privilege, Right, TableStatus, type Translation, WalkFailure, WalkInput,
  WalkKind, WalkResult, denial, isCanonical, loadPdptes, pageFaultCode, pagingMode, translate, walk,
} from './mmu/index.ts';
export * from './apic/index.ts';
