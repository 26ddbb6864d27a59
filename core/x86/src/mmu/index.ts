export { Access, PageFault, Privilege, WalkFailure, pageFaultCode } from './access.ts';
export { AddressModel, WalkInput } from './input.ts';
export { type PageTableMemory, TableStatus } from './memory.ts';
export { PagingMode, isCanonical, pagingMode } from './mode.ts';
export { PdpteLoad, loadPdptes } from './pdpte.ts';
export { Right, WalkKind, WalkResult } from './result.ts';
export { Denial, denial } from './rights.ts';
export { type Translation, translate } from './translate.ts';
export { walk } from './walk.ts';
